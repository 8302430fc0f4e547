/**
 * A disaster rehearsed from nothing but a destination and its keys: an empty Holdfast is started in a directory of its own, learns
 * from the destination what there is, restores it to throw-away copies, and is removed with all that it made.
 */
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type SignedDrillReport, signedDrillReportSchema } from '../../model/drill-report.ts'
import { HoldfastError } from '../../model/errors.ts'
import { homePaths } from '../../model/settings.ts'
import {
  accepted,
  type BackupView,
  backupView,
  connectionView,
  destinationView,
  operationView,
  rebuildView,
} from '../../model/views.ts'
import { allOf, type Client, createClient, tokenIn } from '../client.ts'
import { settingsOf } from '../context.ts'
import { startUp } from '../up/run.ts'
import { isClosed } from '../watch.ts'

export interface FullDrillOptions {
  uri: string
  /** As the API takes them: where the store is, its credentials. */
  store: Record<string, unknown>
  /** Copies of key files, which say whose backups to trust, too. */
  keys: string[]
  /** Only these; none: every connection that has a backup there. */
  connections: string[]
  /** A server that receives logical backups of PostgreSQL, and whose machine has the programs for physical ones. */
  server: { url: string; password: string | undefined } | undefined
  /** Where copies of files and data directories are made; there already. */
  directory: string
  quick: boolean
  signal: AbortSignal
  say(line: string): void
}

export interface FullDrill {
  startedAt: string
  endedAt: string
  verdict: 'passed' | 'failed'
  /** Until the empty Holdfast answered; until it knew what there is; until everything was proven, or had failed. */
  upMs: number
  catalogMs: number
  drillsMs: number
  /** Backups that were met, and those that were not believed. */
  found: number
  refused: { backup: string; code: string; detail: string }[]
  drills: { connection: string; backup: string; report: SignedDrillReport | null; error: string | null }[]
}

/** Whatever happens, what it made is removed: by its own drills first, then the Holdfast with its home. */
export async function fullDrill(options: FullDrillOptions): Promise<FullDrill> {
  const began = Date.now()
  const home = await mkdtemp(join(options.directory, '.holdfast-full-drill-'))
  const env = ownEnvironment(home)
  const settings = settingsOf(home, env)
  await takeKeys(options.keys, homePaths(home).keys)
  options.say(`an empty Holdfast in ${home}`)
  options.say(
    `if this command is killed: HOLDFAST_HOME=${home} HOLDFAST_API_LISTEN=127.0.0.1:0 holdfast up removes what it has restored; then remove that directory`,
  )
  const up = await startUp({ settings, env, say: options.say })
  try {
    const client = createClient(up.api, () => tokenIn(settings.tokenFile))
    const answered = Date.now()
    const { found, refused, newest } = await readDestination(client, options)
    const known = Date.now()
    const drills: FullDrill['drills'] = []
    // One after the other: each is measured as if it were alone.
    for (const backup of newest) {
      options.signal.throwIfAborted()
      const { connection, id } = backup
      options.say(`${connection}: ${id}`)
      const drilled = await drillOne(client, options, home, backup).catch((error: unknown) => {
        if (options.signal.aborted || !(error instanceof HoldfastError)) throw error
        return { report: null, error: `${error.code}: ${error.message}` }
      })
      drills.push({ connection, backup: id, ...drilled })
    }
    const ended = Date.now()
    const passed =
      refused.length === 0 && drills.length > 0 && drills.every(({ report }) => report?.verdict === 'passed')
    return {
      startedAt: new Date(began).toISOString(),
      endedAt: new Date(ended).toISOString(),
      verdict: passed ? 'passed' : 'failed',
      upMs: answered - began,
      catalogMs: known - answered,
      drillsMs: ended - known,
      found,
      refused,
      drills,
    }
  } finally {
    await up.drain()
    await rm(home, { recursive: true, force: true })
  }
}

/** Nothing of a Holdfast that may run here: it is lost, as far as this drill goes. */
function ownEnvironment(home: string): Record<string, string | undefined> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('HOLDFAST_'))
  return { ...Object.fromEntries(inherited), HOLDFAST_HOME: home, HOLDFAST_API_LISTEN: '127.0.0.1:0' }
}

async function takeKeys(files: readonly string[], directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  for (const file of files) {
    await copyFile(file, join(directory, basename(file))).catch(error => {
      throw new HoldfastError(
        'request.invalid',
        `The key file ${file} cannot be read: ${String(error.message)}.`,
      )
    })
  }
}

const destination = 'full-drill'

async function readDestination(client: Client, { uri, store, connections }: FullDrillOptions) {
  await client.post(destinationView, '/v1/destinations', { name: destination, uri, ...store })
  const { found, refused } = await client.post(rebuildView, '/v1/catalog/rebuild', { destination })
  const backups = await allOf(client, backupView, '/v1/backups')
  const newest = new Map<string, BackupView>()
  for (const backup of backups) {
    if (backup.state !== 'committed' || backup.foreign !== null) continue
    const known = newest.get(backup.connection)
    if (known === undefined || known.endedAt < backup.endedAt) newest.set(backup.connection, backup)
  }
  const missing = connections.find(name => !newest.has(name))
  if (missing !== undefined) {
    throw new HoldfastError(
      'backup.not-found',
      `There is no backup of ${missing} in ${uri} that opens with these keys.`,
    )
  }
  const wanted = [...newest.values()].filter(
    ({ connection }) => connections.length === 0 || connections.includes(connection),
  )
  if (wanted.length === 0 && refused.length === 0) {
    throw new HoldfastError('backup.not-found', `There is no backup in ${uri}.`)
  }
  return { found, refused, newest: wanted }
}

async function drillOne(
  client: Client,
  options: FullDrillOptions,
  home: string,
  backup: BackupView,
): Promise<{ report: SignedDrillReport | null; error: string | null }> {
  const target = await targetFor(client, options, home, backup)
  const isDirectory = backup.engine === 'sqlite' || backup.method === 'physical'
  const { operation } = await client.post(accepted, '/v1/drills', {
    backup: backup.id,
    target,
    ...(isDirectory ? { directory: options.directory } : {}),
    // Of roles that the lost server had, an empty one knows nothing.
    noOwner: true,
    quick: options.quick,
  })
  let asked = false
  for (;;) {
    const view = await client.get(operationView, `/v1/operations/${operation.id}`)
    if (isClosed(view)) break
    if (options.signal.aborted && !asked) {
      asked = true
      options.say('ending it, and removing what it has restored')
      await client.post(operationView, `/v1/operations/${operation.id}/cancel`)
    }
    await new Promise(resolve => setTimeout(resolve, 300))
  }
  options.signal.throwIfAborted()
  const report = await client.get(signedDrillReportSchema, `/v1/drills/${operation.id}/report`)
  return { report, error: report.error && `${report.error.code}: ${report.error.detail}` }
}

/** A connection for the copy. Nothing of the one that was backed up is known but its name. */
async function targetFor(
  client: Client,
  options: FullDrillOptions,
  home: string,
  backup: BackupView,
): Promise<string> {
  const name = `full-drill-${backup.engine}-${backup.method}`
  const known = await allOf(client, connectionView, '/v1/connections')
  if (known.some(one => one.name === name)) return name
  if (backup.engine === 'sqlite') {
    // It only says on which machine: the copy is made beside it, in the directory.
    const file = join(home, 'no-database.sqlite')
    const empty = new DatabaseSync(file)
    empty.exec('PRAGMA user_version = 1')
    empty.close()
    await client.post(connectionView, '/v1/connections', {
      name,
      url: `sqlite:${file}`,
      method: backup.method,
    })
    return name
  }
  if (options.server === undefined) {
    throw new HoldfastError(
      'request.invalid',
      `Nobody said on which server a backup of ${backup.engine} (${backup.method}) is to be restored.`,
      { hint: 'Name one that may be written to: --server postgres://…' },
    )
  }
  const { url, password } = options.server
  await client.post(connectionView, '/v1/connections', {
    name,
    url,
    method: backup.method,
    ...(password === undefined ? {} : { secrets: { password } }),
  })
  return name
}
