import type { Command } from 'commander'
import { type KnownCommand, knownCommands, type Takes } from './table.ts'

const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`

function offers(takes: Takes): string {
  if (takes === 'file') return '-r -F'
  if (takes === 'dir') return `-x -a '(__fish_complete_directories)'`
  if (takes === 'anything') return '-x'
  return 'words' in takes
    ? `-x -a ${quoted(takes.words.join(' '))}`
    : `-x -a '(__holdfast_values ${takes.values})'`
}

function lines({ path, below, options, positions }: KnownCommand): string[] {
  const at = (more = '') => `complete -c holdfast -n ${quoted(`__holdfast_at "${path}"${more}`)}`
  return [
    ...below.map(one => `${at(' 0')} -a ${quoted(one.name)} -d ${quoted(one.description)}`),
    ...options.map(one => {
      const short = one.short === undefined ? '' : ` -s ${one.short.slice(1)}`
      const takes = one.takes === undefined ? '' : ` ${offers(one.takes)}`
      return `${at()} -l ${one.long.slice(2)}${short} -d ${quoted(one.description)}${takes}`
    }),
    ...positions.flatMap((takes, index) =>
      takes === 'anything'
        ? []
        : [`${at(` ${index}`)} ${offers(takes).replace('-x ', '').replace('-r ', '')}`],
    ),
  ]
}

export const fishScript = (program: Command): string => {
  const commands = knownCommands(program)
  const cases = (of: (command: KnownCommand) => string[]) =>
    commands
      .filter(command => of(command).length > 0)
      .map(command => `    case "${command.path}"\n      set answer ${of(command).join(' ')}`)
      .join('\n')
  const taking = ({ options }: KnownCommand) =>
    options
      .filter(one => one.takes !== undefined)
      .flatMap(one => (one.short === undefined ? [one.long] : [one.long, one.short]))
  return `# Completion of holdfast for fish. Load it:  holdfast completion fish | source
# or keep it as ~/.config/fish/completions/holdfast.fish

function __holdfast_below
  set -l answer
  switch "$argv[1]"
${cases(command => command.below.map(one => one.name))}
  end
  string join \\n -- $answer
end

function __holdfast_taking
  set -l answer
  switch "$argv[1]"
${cases(taking)}
  end
  string join \\n -- $answer
end

# Is the line at this command (and at this of its arguments)?
function __holdfast_at
  set -l where ''
  set -l position 0
  set -l awaiting 0
  for word in (commandline -opc)[2..-1]
    if test $awaiting = 1
      set awaiting 0
    else if string match -q -- '-*=*' $word
      continue
    else if string match -q -- '-*' $word
      contains -- $word (__holdfast_taking "$where"); and set awaiting 1
    else if contains -- $word (__holdfast_below "$where")
      set where (string trim -- "$where $word")
    else
      set position (math $position + 1)
    end
  end
  test "$where" = "$argv[1]"; or return 1
  test (count $argv) -lt 2; or test $position = $argv[2]
end

# What there is is asked of the API; if that takes long, nothing is offered.
function __holdfast_values
  set -l typed (commandline -opc)
  $typed[1] complete $argv[1] -- $typed[2..-1] 2>/dev/null </dev/null
end

complete -c holdfast -f
${commands.flatMap(lines).join('\n')}
`
}
