/** Walking the table of commands. */
import { type Command, Help } from 'commander'

/** Every command that does something, by its words: `['connection', 'add']`. Hidden ones are left out. */
export function leavesOf(
  command: Command,
  path: readonly string[] = [],
): { path: string[]; command: Command }[] {
  const below = visibleCommands(command)
  if (below.length === 0) return [{ path: [...path], command }]
  return below.flatMap(child => leavesOf(child, [...path, child.name()]))
}

const help = new Help()

/** Without `help`, which commander adds by itself. */
export const visibleCommands = (command: Command): Command[] =>
  help.visibleCommands(command).filter(child => child.name() !== 'help')
