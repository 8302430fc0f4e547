import type { Command } from 'commander'
import { settingsOf } from '../context.ts'
import { fields, note, paint, print, printJson } from '../terminal.ts'
import { trustAlso } from '../trust.ts'
import type { Up } from '../up/run.ts'
import type { GlobalOptions } from '../whom.ts'

export function upCommand(program: Command): void {
  program
    .command('up')
    .description('run everything on this machine: Temporal, API, worker')
    .option('--verbose', 'show what the parts log')
    .addHelpText(
      'after',
      '\nCtrl-C ends it in order; a second Ctrl-C at once. Running backups go on at the next start.\n\nExample:\n  HOLDFAST_HOME=/var/lib/holdfast holdfast up',
    )
    .action(async (options: { verbose?: boolean }, command: Command) => {
      const { home, json = false }: GlobalOptions = command.optsWithGlobals()
      const settings = settingsOf(home)
      if (settings.ca !== undefined) trustAlso(settings.ca)
      const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
      let up: Up | undefined
      let asked = 0
      const ended = new Promise<void>(resolve => {
        for (const signal of signals) {
          process.on(signal, () => {
            asked++
            // Before everything runs there is nothing to drain: the leash ends what was started.
            if (up === undefined) process.exit(130)
            if (asked > 1) {
              up.kill()
              process.exit(130)
            }
            resolve()
          })
        }
      })
      const { startUp } = await import('../up/run.ts')
      up = await startUp({ settings, say: note, verbose: options.verbose === true })
      if (json) {
        const { api, temporalAddress, temporalUi } = up
        printJson({ api, temporalAddress, temporalUi, home: settings.home, pid: process.pid })
      } else {
        print(paint('bold', 'Holdfast is up.'))
        fields([
          ['API', up.api],
          ['Temporal', up.temporalAddress],
          ['Temporal UI', up.temporalUi ?? undefined],
          ['token', settings.tokenFile],
          ['logs', up.logs],
        ])
        print('Ctrl-C ends it in order.')
      }
      await ended
      note('ending: the worker finishes or hands over, then the API, then Temporal (Ctrl-C again: at once)')
      await up.drain()
      process.exit(0)
    })
}
