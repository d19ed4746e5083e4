"""msdtool schema"""

import json

from msdtool.cli.texts import Output, show


def command(output: Output = None) -> None:
    """Print the JSON schema of configs, with which editors complete and check them.

    With the YAML extension of VS Code, and others that use yaml-language-server, write it beside
    the config and begin the config with: # yaml-language-server: $schema=msdtool.schema.json

    Example: msdtool schema -o msdtool.schema.json
    """
    from msdtool.config.json_schema import json_schema

    show(json.dumps(json_schema(), indent=2) + "\n", output)
