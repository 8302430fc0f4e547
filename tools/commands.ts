/** `npm run commands`: writes docs/commands.md from the table of commands (cli/program.ts). A test checks that it is current. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { createProgram } from '../cli/program.ts'
import { leavesOf } from '../cli/tree.ts'

export const commandsPage = join(import.meta.dirname, '../docs/commands.md')

/** Every command as its own --help says it, the flags that all of them have once. */
export async function commandsText(): Promise<string> {
  const program = await createProgram()
  const block = (command: Command) => ['```', helpOf(command), '```', '']
  const lines = [
    '# Commands',
    '',
    'Made from the table of commands by `npm run commands`: this is what `--help` says. How to use them: [cli.md](cli.md).',
    '',
    '## holdfast',
    '',
    ...block(program),
    ...leavesOf(program).flatMap(({ path, command }) => [`## ${path.join(' ')}`, '', ...block(command)]),
  ]
  return `${lines.join('\n').trimEnd()}\n`
}

/** Without the flags that every command has. */
export function helpOf(command: Command): string {
  let text = ''
  command
    .configureHelp({ helpWidth: 110, showGlobalOptions: false })
    .configureOutput({
      writeOut: piece => {
        text += piece
      },
    })
    .outputHelp()
  return text.trimEnd()
}

if (import.meta.main) writeFileSync(commandsPage, await commandsText())
