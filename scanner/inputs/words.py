"""Words by which image files, the folders around them and the columns of tables are known; all in lower case."""


def words(text: str) -> tuple[str, ...]:
    """The words of a text, in its order."""
    return tuple(text.split())


# suffixes: of images that Pillow decodes; of those that it does not, or only a preview of; of files that may hold many images
IMAGES = frozenset(
    words(
        ".png .apng .jpg .jpeg .jpe .jfif .jif .pjpeg .pjp .mpo .ppm .pgm .pbm .pnm .pfm .bmp .dib .webp .tif .tiff .gif .avif .avifs "
        ".jp2 .j2k .j2c .jpc .jpx .jpf .tga .pcx .sgi .rgb .qoi"
    )
)
OTHERS = frozenset(
    words(".heic .heif .hif .jxl .svg .psd .xcf .exr .hdr .dng .nef .cr2 .cr3 .arw .orf .rw2 .raf .pef .srw .dcm .dicom .nii .fits")
)
HOLDERS = frozenset(words(".zip .tar .gz .tgz .bz2 .xz .7z .rar .npy .npz .mat .h5 .hdf5 .tfrecord .parquet .pkl .pt .mp4 .avi .mov .mkv"))

# folders that systems, NAS and galleries keep beside images: those that begin with a mark, of these names, or with thumbnails
MARKS = (".", "@", "#", "$", "~")
LEFT_BEHIND = frozenset(
    (*words("__macosx lost+found recycler recycled __pycache__ thumbs.db"), "system volume information", "network trash folder")
)
THUMBNAILS = frozenset(words("thumb thumbs thumbnail thumbnails _thumb _thumbs _thumbnails preview previews @eadir .thumbnails .@__thumb"))
FILES_LEFT_BEHIND = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
# of a file that a program made a small copy of: photo_thumb.jpg beside photo.jpg
SMALL = words("_thumb -thumb .thumb _thumbnail -thumbnail .thumbnail")

# folders that hold parts of a data set, or all of it: classes only where somebody names them so
WRAPPERS = frozenset(
    words(
        "train training val valid validate validation test testing dev eval evaluation holdout images image imgs img data dataset clean "
        "raw all pictures photos files jpegimages"
    )
)
# what lies beside class folders, and what numbers parts of a data set
BESIDE = frozenset(words("plots plot figures results output outputs misc other others samples examples montage labels annotations docs"))
PARTS = frozenset(words("fold split part track batch run session cam camera set subset shard worker page group trial sequence seq"))

# headings of tables, the surest first
FILES = words(
    "file filename file_name filepath file_path path image image_id imageid image_name imagename image_path imagepath img img_name "
    "img_path name id key sample"
)
CLASSES = words(
    "class_id classid label_id labelid category_id categoryid class_idx class_index classindex label_idx label_index label labels class "
    "classes class_name classname label_name category target y gt ground_truth groundtruth diagnosis"
)
UNLABELLED = frozenset(("", *words("nan na n/a null none -1 -1.0 ?")))
