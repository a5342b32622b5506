"""The operators that a classifier may have: functions of tensors, numbers, texts and lists, and nothing that reaches beyond these.

Reading goes by what is needed, so whatever is not here is refused: files, devices, threads, random numbers, other processes, sparse,
quantised and complex tensors, and operators of other libraries.
"""

import re

ELEMENTWISE = """
abs absolute acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh arccos arcsin arctan bitwise_and bitwise_not bitwise_or
bitwise_xor ceil celu clamp clamp_max clamp_min clip copysign cos cosh deg2rad div divide elu eq erf erfc erfinv exp exp2 expm1 fix
float_power floor floor_divide fmax fmin fmod frac ge gelu glu greater greater_equal gt hardshrink hardsigmoid hardswish hardtanh
heaviside hypot isclose isfinite isinf isnan isin le leaky_relu lerp less less_equal lgamma log log10 log1p log2 log_sigmoid logaddexp
logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul multiply nan_to_num ne neg negative not_equal
positive pow prelu _prelu_kernel rad2deg reciprocal relu relu6 remainder round rrelu rsqrt rsub selu sgn sigmoid sign silu sin sinc sinh
softplus softshrink sqrt square sub subtract tan tanh threshold true_divide trunc where xlogy special_expit special_erf special_exp2
special_expm1 special_log1p special_logit special_round special_xlogy special_softmax special_log_softmax special_sinc zero fill
"""
SHAPES = """
alias alias_copy atleast_1d atleast_2d atleast_3d as_strided broadcast_tensors broadcast_to cat channel_shuffle native_channel_shuffle
chunk clone concat concatenate column_stack constant_pad_nd contiguous copy detach detach_copy diag diag_embed diagonal dstack expand
expand_as expand_copy flatten flip fliplr flipud gather hstack im2col col2im index index_add index_copy index_fill index_put _unsafe_index
_unsafe_index_put index_select lift_fresh lift_fresh_copy lift masked_scatter meshgrid moveaxis movedim narrow narrow_copy numel pad
permute permute_copy pixel_shuffle pixel_unshuffle ravel reflection_pad1d reflection_pad2d reflection_pad3d replication_pad3d repeat
repeat_interleave replication_pad1d replication_pad2d reshape reshape_as _reshape_alias roll rot90 row_stack scatter scatter_add select
select_copy select_scatter slice slice_copy slice_scatter split split_copy split_with_sizes split_with_sizes_copy squeeze squeeze_copy
stack swapaxes swapdims t t_copy take take_along_dim tensor_split tile transpose transpose_copy tril triu unbind unbind_copy unflatten
unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_copy view view_as view_copy _unsafe_view vstack numpy_T mT
sum_to_size _pad_circular _pad_enum to _to_copy type_as _cast_Float _cast_Half _cast_Double _cast_Int _cast_Long one_hot cpu resolve_conj
resolve_neg
"""
REDUCTIONS = """
all amax amin aminmax any argmax argmin argsort bincount bucketize count_nonzero cummax cummin cumprod cumsum logsumexp max mean median
min norm frobenius_norm prod searchsorted sort std std_mean sum topk var var_mean linalg_norm linalg_vector_norm linalg_matrix_norm
kthvalue cosine_similarity pairwise_distance cdist dist equal allclose
"""
LAYERS = """
_adaptive_avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d addbmm addmm addmv addr affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm
_batch_norm_impl_index _native_batch_norm_legit_no_training native_batch_norm _native_batch_norm_legit bilinear bmm _convolution
convolution _convolution_mode conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d chain_matmul cross
cross_entropy_loss binary_cross_entropy_with_logits mse_loss nll_loss nll_loss_nd nll_loss2d dot dropout native_dropout einsum embedding
feature_alpha_dropout feature_dropout grid_sampler grid_sampler_2d grid_sampler_3d group_norm native_group_norm inner instance_norm
layer_norm native_layer_norm linear linalg_matmul linalg_multi_dot linalg_inv inverse local_value log_softmax _log_softmax lstm gru
rnn_tanh rnn_relu matmul max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d mkldnn_convolution mm mv outer
ger kron rms_norm scaled_dot_product_attention _scaled_dot_product_attention_math _scaled_dot_product_flash_attention_for_cpu softmax
_softmax _safe_softmax tensordot thnn_conv2d trace upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
upsample_nearest2d _upsample_nearest_exact1d _upsample_nearest_exact2d upsample_nearest3d upsample_trilinear3d _upsample_nearest_exact3d
_upsample_bicubic2d_aa _upsample_bilinear2d_aa __interpolate __upsample __upsample_bilinear __upsample_nearest _weight_norm
_weight_norm_interface _native_multi_head_attention _transformer_encoder_layer_fwd fft_fft2 fft_rfft2 fft_irfft2
"""
MAKING = """
arange as_tensor empty empty_like eye full full_like linspace new_empty new_full new_ones new_zeros ones ones_like scalar_tensor tensor
tril_indices triu_indices zeros zeros_like _shape_as_tensor _efficientzerotensor _list_to_tensor hann_window
"""
# the arithmetic of sizes, lists and texts, and what code asks of a tensor
LANGUAGE = """
Bool Float FloatImplicit Int IntImplicit ScalarImplicit Size __and__ __contains__ __derive_index __getitem__ __iand__ __ior__ __is__
__isnot__ __ixor__ __lshift__ __not__ __or__ __range_length __round_to_zero_floordiv __rshift__ __xor__ _assert_async
_assert_tensor_metadata _assert_scalar _get_tracing_state _infer_size _set_item _size_if_not_equal _unwrap_optional append clear copy
count degrees device dict dim divmod endswith element_size extend fabs find floordiv format get get_device gcd has_torch_function hash
index insert is_autocast_enabled is_autocast_cpu_enabled is_complex is_contiguous is_floating_point is_grad_enabled is_inference is_leaf
is_nonzero is_pinned is_same_size is_scripting is_signed item items _local_scalar_dense join keys len list lower lstrip mathremainder ord
percentFormat pop radians range remove replace result_type promote_types reverse rstrip setdefault size sorted startswith storage_offset
str stride strip sym_numel sym_size sym_stride sym_constrain_range sym_constrain_range_for_size update upper values warn Delete can_cast
"""
# drawn while a network is trained; a branch that does may stay in the code as long as nothing takes it
RANDOM = frozenset(
    [
        "bernoulli",
        "multinomial",
        "normal",
        "rand",
        "rand_like",
        "randint",
        "randint_like",
        "randn",
        "randn_like",
        "randperm",
        "uniform",
        "poisson",
    ]
)
# of batches that are padded, which PyTorch's own transformer has a branch for
NESTED = re.compile(r"_?nested_\w+|to_padded_tensor")
# families that are functions of tensors throughout, so that a newer member in a branch that nothing takes does no harm
FAMILIES = re.compile(
    r"_?upsample_\w+|linalg_\w+|special_\w+|fft_\w+|\w+_loss(_nd|2d)?|(adaptive_|fractional_)?(max|avg|lp)_pool\d?d?(_with_indices)?"
    r"|(reflection|replication)_pad[123]d|conv\w+|_?grid_sampler\w*|_scaled_dot_product\w+"
)
TENSORS = frozenset(f"{ELEMENTWISE} {SHAPES} {REDUCTIONS} {LAYERS} {MAKING}".split())
ALLOWED = TENSORS | frozenset(LANGUAGE.split())
# kinds of TorchScript's own; calls are resolved before they are looked at
PRIMITIVES = frozenset(
    f"prim::{name}"
    for name in [
        "Constant",
        "GetAttr",
        "SetAttr",
        "CallMethod",
        "CallFunction",
        "If",
        "Loop",
        "TupleConstruct",
        "TupleUnpack",
        "TupleIndex",
        "TupleSlice",
        "ListConstruct",
        "ListUnpack",
        "DictConstruct",
        "RaiseException",
        "NumToTensor",
        "Uninitialized",
        "Return",
        "isinstance",
        "unchecked_cast",
        "unchecked_unwrap_optional",
        "dtype",
        "device",
        "layout",
        "is_cuda",
        "is_cpu",
        "is_mps",
        "is_xpu",
        "is_xla",
        "is_meta",
        "is_mkldnn",
        "is_quantized",
        "is_sparse",
        "is_nested",
        "requires_grad",
        "data",
        "min",
        "max",
        "abs",
        "type",
        "tolist",
        "itemsize",
        "rangelist",
        "StringIndex",
        "EnumName",
        "EnumValue",
        "ConstantChunk",
        "BroadcastSizes",
        "CreateObject",
        "shape",
        "annotate",
        "ModuleContainerIndex",
    ]
)


def allowed(kind: str, overload: str) -> bool:
    """Whether a node of this kind ("aten::add_") and overload may be in a model; what writes into a tensor given beside is not."""
    space, _, name = kind.partition("::")
    if space != "aten":
        return kind in PRIMITIVES
    known = plain(name)
    found = known in ALLOWED or known in RANDOM or FAMILIES.fullmatch(known) or NESTED.fullmatch(known)
    return bool(found) and not (overload == "out" or overload.endswith("_out"))


def plain(name: str) -> str:
    """An operator's name without the mark of one that writes into its first argument."""
    return name if name in ALLOWED or name.endswith("__") else name.removesuffix("_")


def computes(name: str) -> bool:
    """Whether an operator, by its plain name, is a function of tensors."""
    return name in TENSORS or FAMILIES.fullmatch(name) is not None
