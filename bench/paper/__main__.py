"""The three commands; see the package."""

import click

from bench.paper import measure, page, zoo


@click.group(help=__doc__)
def main() -> None:
    """Nothing by itself."""


main.add_command(zoo.command, "zoo")
main.add_command(measure.command, "measure")
main.add_command(page.command, "page")

if __name__ == "__main__":
    main()
