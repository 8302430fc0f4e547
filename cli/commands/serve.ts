/** The two processes that `up` runs, one by one: for machines with a Temporal of their own. */
import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { HoldfastError } from '../../model/errors.ts'
import type { Settings } from '../../model/settings.ts'
import { settingsOf } from '../context.ts'
import { clean, print, printJson } from '../terminal.ts'
import { trustAlso } from '../trust.ts'
import type { GlobalOptions } from '../whom.ts'

export function serveCommands(program: Command): void {
  program
    .command('api')
    .description('serve the HTTP API; owns the catalog')
    .addHelpText('after', '\nExample:\n  HOLDFAST_TEMPORAL_ADDRESS=temporal.example:7233 holdfast api')
    .action(async (_options: unknown, command: Command) => {
      const settings = settingsOf(command.optsWithGlobals().home)
      const { startApi } = await import('../../api/server.ts')
      const api = await startApi({ settings })
      await signalled()
      await api.close()
      process.exit(0)
    })

  program
    .command('worker')
    .description('carry out the steps of backups and restores')
    .option(
      '--host <name>',
      'the steps that touch this host, on which it lives, and no others; with a token of that host',
    )
    .option('--health', 'only say whether the worker of this machine is at work: exit code 0, else 1')
    .addHelpText(
      'after',
      `
Examples:
  HOLDFAST_TEMPORAL_ADDRESS=temporal.example:7233 holdfast worker
  HOLDFAST_WORKER_TOKEN_FILE=/etc/holdfast/host.token holdfast worker --host db1
  holdfast worker --health`,
    )
    .action(async ({ health, host }: { health?: boolean; host?: string }, command: Command) => {
      const options: GlobalOptions = command.optsWithGlobals()
      const settings = settingsOf(options.home)
      if (settings.ca !== undefined) trustAlso(settings.ca)
      if (health === true) return await showHealth(settings, options.json === true)
      const { startWorker } = await import('../../activities/worker.ts')
      let end = (): void => process.exit(0)
      void signalled().then(() => end())
      const workerToken = await workerTokenOf(settings)
      const ownHost = host === undefined ? {} : { ownHost: host }
      const worker = await startWorker({ settings, workerToken, ...ownHost }).catch(temporalAway(settings))
      end = () => worker.shutdown()
      await worker.run()
      // Native threads of the SDK may linger; everything of ours is settled here.
      process.exit(0)
    })
}

async function showHealth(settings: Settings, json: boolean): Promise<void> {
  const { workerHealth } = await import('../worker-health.ts')
  const health = await workerHealth(settings, await workerTokenOf(settings))
  if (json) printJson(health)
  else
    for (const { name, ok, detail } of health.checks)
      print(`${ok ? 'pass' : 'fail'}  ${name}: ${clean(detail)}`)
  if (!health.healthy) process.exitCode = 1
}

const signalled = (): Promise<void> =>
  new Promise(resolve => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve())
  })

/** The SDK's own words for a Temporal that does not answer. */
const temporalAway = (settings: Settings) => (error: unknown) => {
  if (
    !(
      error instanceof Error && /TransportError|could not be described/.test(`${error.name} ${error.message}`)
    )
  ) {
    throw error
  }
  throw new HoldfastError(
    'temporal.unreachable',
    `Temporal at ${settings.temporal.address} does not answer.`,
    {
      cause: error,
    },
  )
}

async function workerTokenOf(settings: Settings): Promise<string> {
  const path = settings.workerTokenFile
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HoldfastError('settings.invalid', `The worker's token ${path} cannot be read: ${reason}.`, {
      hint: 'The API makes it at its first start; on another machine put a copy there, readable by its user only.',
    })
  }
}
