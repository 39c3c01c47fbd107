"""A script that completes verbs, options and boards in bash or zsh."""

from __future__ import annotations

import argparse

EXAMPLE = 'eval "$(etexport completion bash)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"))


def main(args: argparse.Namespace) -> int:
    from etexport.board import board_names
    from etexport.cli.parser import VERBS, parser

    (verbs,) = (action.choices for action in parser(VERBS)._actions if isinstance(action, argparse._SubParsersAction))
    boards = " ".join(board_names())
    print("autoload -U +X bashcompinit && bashcompinit\n" if args.shell == "zsh" else "", end="")
    print(
        _FUNCTION.format(
            verbs=" ".join(VERBS), boards=boards, cases="\n".join(_case(name, one) for name, one in verbs.items())
        )
    )
    return 0


def _case(verb: str, parser: argparse.ArgumentParser) -> str:
    """What `--...` may be behind a verb, and what may follow an option that takes one of a few words."""
    options = " ".join(
        option for action in parser._actions for option in action.option_strings if option.startswith("--")
    )
    chosen = [
        (one.option_strings, " ".join(map(str, one.choices)))
        for one in parser._actions
        if one.option_strings and one.choices
    ]
    words = "".join(f' {"|".join(names)}) words="{choices}" ;;' for names, choices in chosen)
    return f'    {verb}) options="{options}"; case $before in{words} *) ;; esac ;;'


_FUNCTION = """\
_etexport() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD - 1]}}" verb="${{COMP_WORDS[1]}}" options="" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
    return
  fi
  case $verb in
{cases}
  esac
  if [ "$before" = --board ] || {{ [ "$verb" = boards ] && [ "${{word#-}}" = "$word" ]; }}; then
    words="{boards}"
  fi
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  elif [ "${{word#-}}" != "$word" ]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _etexport etexport"""  # noqa: E501
