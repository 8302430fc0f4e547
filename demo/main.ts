/**
 * `npm run demo`: the main job on real data. Starts Holdfast in ./.holdfast/demo, makes a shop, backs it up encrypted, verifies,
 * drops it, restores it and proves that every value is back. `npm run demo -- URL` does it with a database of yours, which
 * is only read: the restore goes beside, under another name.
 */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { createClient, tokenIn } from '../cli/client.ts'
import { isFree } from '../cli/free-port.ts'
import { absoluteConnectionUrl } from '../cli/paths.ts'
import { print, printError } from '../cli/terminal.ts'
import { lockHome, waitForFormerChildren } from '../cli/up/home.ts'
import { startUp, type Up } from '../cli/up/run.ts'
import { HoldfastError } from '../model/errors.ts'
import { settingsFrom } from '../model/settings.ts'
import { ownDatabase } from './own.ts'
import { postgresShop, sqliteShop } from './shops.ts'
import { openTimeline } from './timeline.ts'

const timeline = openTimeline()
let up: Up | undefined
const servers: { stop(): Promise<void> }[] = []

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help || positionals.length > 1) {
    print(
      'npm run demo [-- [PATH or URL of a database of yours] [--keep]]\n\n--keep leaves Holdfast running.',
    )
    process.exit(values.help ? 0 : 2)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      // What was started hangs on a leash: it ends when we do.
      process.exit(130)
    })
  }
  process.exitCode = (await demo(positionals[0], values.keep)) ? 0 : 1
} catch (error) {
  if (error instanceof HoldfastError) printError(error.facts())
  else {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error)
    printError({ code: 'internal', detail, hint: 'The logs are in .holdfast/demo/logs.' })
  }
  process.exitCode = 1
} finally {
  await up?.drain()
  for (const server of servers) await server.stop()
}

async function demo(own: string | undefined, keep: boolean): Promise<boolean> {
  const home = resolve('.holdfast', 'demo')
  timeline.title('Holdfast demo')
  if (existsSync(home)) {
    // An earlier demo that still runs keeps its home; of one that was killed everything ends first.
    lockHome(home).release()
    await waitForFormerChildren(home, line => timeline.aside(line))
    await rm(home, { recursive: true })
  }
  const port = (await isFree('127.0.0.1', 7460)) ? 7460 : 0
  // Whatever is set for a real Holdfast on this machine stays out of the demo.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('HOLDFAST_')),
  )
  const settings = settingsFrom({ HOLDFAST_HOME: home, HOLDFAST_API_LISTEN: `127.0.0.1:${port}` }, '/', false)
  const started = performance.now()
  up = await startUp({ settings, env, say: line => timeline.aside(line) })
  timeline.step('✓', 'up', `Temporal, API and a worker; everything lies in ${home}`, started)

  const client = createClient(up.api, () => tokenIn(settings.tokenFile))
  const sample = join(home, 'sample')
  let equal: boolean
  if (own !== undefined) {
    equal = await ownDatabase(
      client,
      timeline,
      absoluteConnectionUrl(own, process.cwd()),
      join(home, 'restored'),
    )
  } else {
    const sqlite = await sqliteShop(client, timeline, sample)
    equal = (await postgresShop(client, timeline, servers)) && sqlite
  }

  timeline.title(
    equal
      ? `Everything is back, schema and every value (${timeline.seconds().toFixed(0)} s)`
      : 'Something differs',
  )
  print(`  API          ${up.api}   token in ${join(home, 'api.token')}`)
  print(`  Temporal UI  ${up.temporalUi}`)
  if (keep) {
    print(`  Try          bin/holdfast --home ${home} backups list\n\nRunning until Ctrl-C.`)
    await new Promise<void>(done => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) {
        process.removeAllListeners(signal)
        process.once(signal, () => done())
      }
    })
  } else {
    print(`  Try          bin/holdfast recover ${home}/backups --key ${home}/keys/default.json --list`)
    print('\nIt ends now; `npm run demo -- --keep` leaves it running.')
  }
  return equal
}
