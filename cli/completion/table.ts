/** What completion knows of the commands: read from the one table (cli/program.ts). */
import { type Argument, type Command, Help, type Option } from 'commander'
import { visibleCommands } from '../tree.ts'

/**
 * What may stand there: one of these words, files, directories, what there is of something (`connection`, asked when it is
 * needed), or anything.
 */
export type Takes = { words: string[] } | { values: string } | 'file' | 'dir' | 'anything'

export interface KnownOption {
  long: string
  short: string | undefined
  description: string
  /** undefined: it takes no value. */
  takes: Takes | undefined
}

export interface KnownCommand {
  /** `connection add`; empty for the program itself. */
  path: string
  below: { name: string; description: string }[]
  options: KnownOption[]
  positions: Takes[]
}

/** Words between `<` and `>` that name something that can be asked for. */
export const askable = [
  'connection',
  'destination',
  'key',
  'backup',
  'operation',
  'profile',
  'user',
  'schedule',
  'host',
] as const
export type Askable = (typeof askable)[number]

const help = new Help()

export function knownCommands(program: Command): KnownCommand[] {
  const common = help.visibleOptions(program).filter(option => option.long !== '--version')
  const walk = (command: Command, path: string): KnownCommand[] => {
    const below = visibleCommands(command)
    const own = help.visibleOptions(command).filter(option => !common.some(one => one.long === option.long))
    const all = command === program ? help.visibleOptions(program) : [...own, ...common]
    return [
      {
        path,
        below: below.map(child => ({ name: child.name(), description: child.description() })),
        options: all.map(knownOption),
        positions: command.registeredArguments.map(takesOf),
      },
      ...below.flatMap(child => walk(child, path === '' ? child.name() : `${path} ${child.name()}`)),
    ]
  }
  return walk(program, '')
}

const knownOption = (option: Option): KnownOption => ({
  long: option.long ?? '',
  short: option.short,
  description: option.description,
  takes: option.required || option.optional ? takesOf(option) : undefined,
})

function takesOf(one: Argument | Option): Takes {
  if (one.argChoices !== undefined) return { words: one.argChoices }
  const name = 'flags' in one ? (/[<[]([^>\].]+)/.exec(one.flags)?.[1] ?? '') : one.name()
  const asked = askable.find(kind => kind === name)
  if (asked !== undefined) return { values: asked }
  return name === 'file' || name === 'uri' ? 'file' : name === 'dir' ? 'dir' : 'anything'
}
