import { Argument, type Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import { print } from '../terminal.ts'

const shells = ['bash', 'zsh', 'fish'] as const

/** Longer than that nobody waits after a TAB. */
const patienceMs = 1500

export function completionCommand(program: Command): void {
  program
    .command('completion')
    .addArgument(new Argument('<shell>', 'bash, zsh or fish').choices(shells))
    .description('print a script that completes commands, options and names in this shell')
    .addHelpText(
      'after',
      '\nExamples:\n  source <(holdfast completion bash)\n  holdfast completion zsh > ~/.zfunc/_holdfast\n  holdfast completion fish > ~/.config/fish/completions/holdfast.fish',
    )
    .action(async (shell: (typeof shells)[number]) => {
      const { bashScript } = await import('../completion/bash.ts')
      const { zshScript } = await import('../completion/zsh.ts')
      const { fishScript } = await import('../completion/fish.ts')
      process.stdout.write({ bash: bashScript, zsh: zshScript, fish: fishScript }[shell](program))
    })

  // What the scripts ask at a TAB.
  program
    .command('complete', { hidden: true })
    .argument('<kind>')
    .argument('[words...]')
    .action(async (kind: string, words: string[]) => {
      setTimeout(() => process.exit(0), patienceMs).unref()
      const { askable } = await import('../completion/table.ts')
      const { valuesOf } = await import('../completion/values.ts')
      const known = askable.find(one => one === kind)
      if (known === undefined)
        throw new HoldfastError('request.invalid', `There is no "${kind}" to complete.`)
      const values = await valuesOf(known, words).catch(() => [])
      for (const value of values) print(value)
    })
}
