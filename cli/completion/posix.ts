/** What bash and zsh share: the table as a case statement, and the walk along the words that were typed. */
import type { Command } from 'commander'
import { type KnownCommand, knownCommands, type Takes } from './table.ts'

const quoted = (words: readonly string[]): string => `'${words.join(' ').replaceAll("'", "'\\''")}'`

/** One word per value: `@a,b` are choices, `+connection` is asked for. */
function told(takes: Takes): string {
  if (typeof takes === 'string') return takes
  return 'words' in takes ? `@${takes.words.join(',')}` : `+${takes.values}`
}

function entry({ path, below, options, positions }: KnownCommand): string {
  const names = options.flatMap(one => (one.short === undefined ? [one.long] : [one.long, one.short]))
  const takes = options.flatMap(one => {
    if (one.takes === undefined) return []
    return [one.long, ...(one.short === undefined ? [] : [one.short])].map(
      name => `${name}=${told(one.takes ?? 'anything')}`,
    )
  })
  const sets = [
    `subs=${quoted(below.map(one => one.name))}`,
    `opts=${quoted(names)}`,
    `takes=${quoted(takes)}`,
    `args=${quoted(positions.map(told))}`,
  ]
  return `    '${path}') ${sets.join(' ')} ;;`
}

/** zsh reads it with its option sh_word_split. The caller declares the variables. */
export const sharedFunctions = (program: Command): string => `# What may follow the command $1.
_holdfast_about() {
  case $1 in
${knownCommands(program).map(entry).join('\n')}
  esac
}

# What the option $1 takes: sets kind, empty if nothing.
_holdfast_kind() {
  kind=
  for pair in $takes; do
    case $pair in "$1="*) kind=\${pair#*=} ;; esac
  done
}

# Goes along the words before the one that is being typed: sets where, position, awaiting.
_holdfast_walk() {
  where= position=0 awaiting=
  _holdfast_about ''
  while [ $# -gt 0 ]; do
    word=$1
    shift
    if [ -n "$awaiting" ]; then awaiting=; continue; fi
    case $word in
      -*=*) continue ;;
      -*) _holdfast_kind "$word"; awaiting=$kind; continue ;;
    esac
    found=
    for sub in $subs; do
      if [ "$sub" = "$word" ]; then found=yes; fi
    done
    if [ -n "$found" ]; then
      where="$where\${where:+ }$word"
      _holdfast_about "$where"
    else position=$((position + 1)); fi
  done
}

# For the word being typed, $1: sets kind, prefix (what of it stays as it is) and candidates. The rest: all words.
_holdfast_candidates() {
  prefix= candidates= kind=
  typed=$1
  shift
  if [ -n "$awaiting" ]; then kind=$awaiting
  else
    case $typed in
      --*=*) prefix=\${typed%%=*}=; _holdfast_kind "\${typed%%=*}" ;;
      -*) candidates=$opts; return ;;
      *)
        if [ -n "$subs" ]; then candidates=$subs; return; fi
        index=0
        for one in $args; do
          if [ $index -eq $position ]; then kind=$one; fi
          index=$((index + 1))
        done
        ;;
    esac
  fi
  case $kind in
    @*) candidates=$(printf '%s' "\${kind#@}" | tr , ' ') ;;
    # What there is is asked of the API; if that takes long, nothing is offered.
    +*) candidates=$("$program" complete "\${kind#+}" -- "$@" 2>/dev/null </dev/null) ;;
  esac
}
`
