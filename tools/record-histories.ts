/**
 * `npm run histories`: runs real operations of this code and keeps their Temporal histories in test/histories/, for the replay
 * test. Record anew when workflows change on purpose; a change that must work under running workflows has to replay the
 * histories that are there. What names this machine is replaced.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { Client, Connection } from '@temporalio/client'
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js'
import { logsWorkflowId, requestWorkflowId, retireWorkflowId, takeBackWorkflowId } from '../model/ids.ts'
import type { LogStreamView } from '../model/log-stream.ts'
import type { OperationView } from '../model/views.ts'
import { parseLsn } from '../model/wal.ts'
import { launcher } from '../test/cli/run.ts'
import { type Azurite, startAzurite } from '../test/servers/azurite.ts'
import { startPostgres, type TestPostgres } from '../test/servers/postgres.ts'
import { addPerson, approve, askFor, awaiting } from '../test/support/people.ts'
import { createDatabase } from '../test/support/postgres-sample.ts'
import { makeShop } from '../test/support/shop.ts'
import { scratch } from '../test/support/temporary.ts'
import { age } from '../test/system/aging.ts'
import { azureInput, directory, eventually, type Stack, startStack } from '../test/system/stack.ts'
import { archived, site } from '../test/wal/site.ts'

const root = join(import.meta.dirname, '..')
const target = join(root, 'test/histories')

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Replaces text everywhere, also inside payloads. */
function rewrite(value: Json, replace: (text: string) => string): Json {
  if (typeof value === 'string') return replace(value)
  if (Array.isArray(value)) return value.map(item => rewrite(item, replace))
  if (value === null || typeof value !== 'object') return value
  const { metadata, data } = value
  if (typeof data === 'string' && metadata !== undefined) {
    const text = replace(Buffer.from(data, 'base64').toString('utf8'))
    return { ...value, data: Buffer.from(text).toString('base64') }
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, rewrite(item, replace)]))
}

async function expectState(stack: Stack, id: string, state: OperationView['state']): Promise<OperationView> {
  const view = await stack.ended(id)
  if (view.state !== state) throw new Error(`${id} is ${view.state}: ${JSON.stringify(view.error)}`)
  return view
}

/** A run of a workflow; absent: the newest. */
interface Recorded {
  workflowId: string
  runId?: string | null
}

/** Each workflow by the name of its history. */
async function operations(
  stack: Stack,
  postgres: TestPostgres,
  blobs: Azurite,
): Promise<Record<string, Recorded>> {
  const shop = join(stack.directory, 'shop.db')
  makeShop(shop, { rows: 1000 })
  await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: await directory(stack, 'vault') })
  for (const [name, method] of [
    ['copied', 'physical'],
    ['dumped', 'logical'],
  ] as const) {
    await stack.expectOk('POST', '/v1/connections', { name, url: `sqlite:${shop}`, method })
  }
  const begin = (connection: string) => stack.backup({ connection, destinations: ['vault'] })
  const attemptRecorded = () =>
    stack.workerApi.hold('after', (_method, url) => url.endsWith('/recordAttempt'))
  const found: Record<string, Recorded> = {}

  found['backup-streamed'] = await expectState(stack, (await begin('dumped')).id, 'succeeded')
  const staged = await expectState(stack, (await begin('copied')).id, 'succeeded')
  found['backup-staged'] = staged

  const killed = attemptRecorded()
  const interrupted = await begin('copied')
  await killed.reached
  await stack.worker?.kill9()
  killed.cut()
  stack.startWorker()
  found['backup-staged-worker-killed'] = await expectState(stack, interrupted.id, 'succeeded')

  const held = attemptRecorded()
  const unwanted = await begin('dumped')
  await held.reached
  await stack.expectOk('POST', `/v1/operations/${unwanted.id}/cancel`, {})
  held.release()
  found['backup-cancelled'] = await expectState(stack, unwanted.id, 'cancelled')

  const vault = join(stack.directory, 'vault')
  await rename(vault, `${vault}-away`)
  const parked = await stack.backup({ connection: 'copied', destinations: ['vault'], unattended: true })
  await stack.parked(parked.id)
  await rename(`${vault}-away`, vault)
  await stack.resume(parked.id)
  found['backup-parked'] = await expectState(stack, parked.id, 'succeeded')

  const stopped = attemptRecorded()
  const paused = await begin('copied')
  await stopped.reached
  await stack.pause(paused.id)
  stopped.release()
  await eventually('it is paused', async () =>
    (await stack.operation(paused.id)).state === 'paused' ? true : undefined,
  )
  await stack.resume(paused.id)
  found['backup-paused'] = await expectState(stack, paused.id, 'succeeded')

  // The tool refuses: the file is not a database any more.
  const broken = join(stack.directory, 'broken.db')
  makeShop(broken, { rows: 10 })
  await stack.expectOk('POST', '/v1/connections', { name: 'broken', url: `sqlite:${broken}` })
  await writeFile(broken, 'not a database')
  found['backup-failed'] = await expectState(stack, (await begin('broken')).id, 'failed')

  const { backup } = staged
  const restore = async (database: string) =>
    (await stack.restore({ backup, target: { connection: 'copied', database } })).id
  found.restore = await expectState(stack, await restore(join(stack.directory, 'back.db')), 'succeeded')
  found['restore-failed'] = await expectState(stack, await restore(shop), 'failed')
  const drill = async (more: Record<string, unknown>) =>
    (await stack.expectOk<{ operation: OperationView }>('POST', '/v1/drills', { backup, ...more })).operation
      .id
  found.drill = await expectState(stack, await drill({ maxSeconds: 600 }), 'succeeded')
  const queries = [{ name: 'wrong', sql: 'SELECT 1', expect: '2' }]
  found['drill-failed'] = await expectState(stack, await drill({ queries }), 'failed')

  const { operation } = await stack.expectOk<{ operation: OperationView }>(
    'POST',
    `/v1/backups/${backup}/verify`,
    { level: 'checksum' },
  )
  found.verify = await expectState(stack, operation.id, 'succeeded')
  const scrubbing = await stack.expectOk<{ operation: OperationView }>('POST', '/v1/scrub', {
    level: 'checksum',
  })
  found.scrub = await expectState(stack, scrubbing.operation.id, 'succeeded')

  await stack.expectOk('POST', '/v1/destinations', { name: 'attic', uri: await directory(stack, 'attic') })
  const copying = await stack.expectOk<{ operation: OperationView }>('POST', `/v1/backups/${backup}/copy`, {
    to: 'attic',
  })
  found.copy = await expectState(stack, copying.operation.id, 'succeeded')

  const attic = join(stack.directory, 'attic')
  await rename(attic, `${attic}-away`)
  const partly = await stack.backup({ connection: 'copied', destinations: ['vault', 'attic'] })
  found['backup-partial'] = await expectState(stack, partly.id, 'partial')
  await rename(`${attic}-away`, attic)

  await stack.expectOk('POST', '/v1/keys', { name: 'next' })
  const rotation = await stack.expectOk<{ operation: OperationView }>('POST', '/v1/keys/default/rotate', {
    to: 'next',
  })
  found['rotate-keys'] = await expectState(stack, rotation.operation.id, 'succeeded')
  found.sweep = await expectState(stack, (await stack.sweep({ unknown: true })).id, 'succeeded')

  const tiers = [{ afterDays: 7, class: 'Cool' }]
  await stack.expectOk('POST', '/v1/destinations', { ...azureInput(blobs, 'blobs', 'cold'), tiers })
  const old = await stack.backup({ connection: 'dumped', destinations: ['blobs'] })
  await age(stack, [(await expectState(stack, old.id, 'succeeded')).backup ?? ''], 8)
  const tiering = await stack.expectOk<{ operation: OperationView }>(
    'POST',
    '/v1/destinations/blobs/tiers',
    {},
  )
  found.tiering = await expectState(stack, tiering.operation.id, 'succeeded')
  found['enable-pitr'] = await enabled(stack)
  found['archive-logs'] = await streamed(stack)
  return {
    ...found,
    ...(await withHostWorker(stack, shop)),
    ...(await swaps(stack, postgres, shop)),
    ...(await recovery(stack)),
  }
}

/** To the end of the archived log: recovered, and drilled; the base backup begins with a canary. */
async function recovery(stack: Stack): Promise<Record<string, Recorded>> {
  await using place = await scratch()
  const on = await site(place.path)
  const archiving = `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'`
  const server = await startPostgres({ version: 15, config: archiving })
  try {
    await on.configured('a', server.dataDir)
    await archived(server.sql)
    await stack.expectOk('POST', '/v1/destinations', { name: 'log', uri: on.store })
    const shop = { name: 'shop', url: server.url(), method: 'physical', canary: true }
    await stack.expectOk('POST', '/v1/connections', shop)
    const backup = await stack.backup({ connection: 'shop', destinations: ['log'] })
    const canary = await expectState(stack, backup.id, 'succeeded')
    await archived(server.sql)
    const asked = { connection: 'shop', to: { kind: 'latest' }, walConfig: on.configOf('a') }
    const begin = async (path: string, body: Record<string, unknown>) => {
      const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', path, body)
      return await expectState(stack, operation.id, 'succeeded')
    }
    return {
      'backup-canary': canary,
      pitr: await begin('/v1/pitr', { ...asked, target: { directory: join(place.path, 'copy') } }),
      'drill-moment': await begin('/v1/drills', { moment: asked, directory: place.path }),
    }
  } finally {
    await server.stop()
  }
}

/** Parked for a restart, and proven by a command that is content with everything. */
async function enabled(stack: Stack): Promise<Recorded> {
  const server = await startPostgres()
  try {
    const program = join(server.dataDir, 'archiver')
    await writeFile(program, '#!/bin/sh\n', { mode: 0o755 })
    await stack.expectOk('POST', '/v1/connections', { name: 'logged', url: server.url() })
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/connections/logged/archiving',
      { program },
    )
    await stack.parked(operation.id)
    await server.restart()
    await stack.resume(operation.id)
    return await expectState(stack, operation.id, 'partial')
  } finally {
    await server.stop()
  }
}

/** Streamed for a few steps, and stopped for good. */
async function streamed(stack: Stack): Promise<Recorded> {
  const server = await startPostgres({ version: 15 })
  try {
    const path = '/v1/connections/streamed/log-stream'
    await stack.expectOk('POST', '/v1/connections', { name: 'streamed', url: server.url() })
    await stack.expectOk('POST', path, { destinations: ['vault'] })
    const archivedTo = async (lsn: string) =>
      await eventually('its log is archived', async () => {
        const { state } = await stack.expectOk<LogStreamView>('GET', path)
        return (parseLsn(state?.archivedLsn ?? '0/0') ?? 0n) >= (parseLsn(lsn) ?? 0n) ? true : undefined
      })
    await archivedTo(await server.sql('create table line (); select pg_switch_wal()'))
    await archivedTo(await server.sql('drop table line; select pg_switch_wal()'))
    await stack.expectOk('POST', `${path}/stop`, { slot: 'drop' })
    await eventually('it is stopped', async () =>
      (await stack.call('GET', path)).status === 404 ? true : undefined,
    )
    return { workflowId: logsWorkflowId('streamed') }
  } finally {
    await server.stop()
  }
}

/** On a host with a worker of its own: there, and not there at first. */
async function withHostWorker(stack: Stack, shop: string): Promise<Record<string, Recorded>> {
  await stack.expectOk('POST', '/v1/hosts', { name: 'db1', url: 'worker:' })
  const { token } = await stack.expectOk<{ token: string }>('POST', '/v1/hosts/db1/token', {})
  const tokenFile = join(stack.directory, 'host.token')
  await writeFile(tokenFile, token, { mode: 0o600 })
  const begin = async () => {
    const settings = {
      HOLDFAST_WORKER_TOKEN_FILE: tokenFile,
      HOLDFAST_TEMP_DIR: join(stack.directory, 'db1'),
    }
    const worker = stack.startWorker(settings, ['--host', 'db1'])
    await eventually('the worker of the host answers', async () =>
      (await stack.call('POST', '/v1/hosts/db1/test')).status === 200 ? true : undefined,
    )
    return worker
  }
  const worker = await begin()
  const there = { name: 'there', url: `sqlite:${shop}`, method: 'physical', host: 'db1' }
  await stack.expectOk('POST', '/v1/connections', there)
  const ask = async () => (await stack.backup({ connection: 'there', destinations: ['vault'] })).id
  const made = await expectState(stack, await ask(), 'succeeded')
  const target = { connection: 'there', database: join(stack.directory, 'back there.db') }
  const restored = await stack.restore({ backup: made.backup, target })
  const restore = await expectState(stack, restored.id, 'succeeded')
  await worker.terminate()
  const parked = await ask()
  await stack.parked(parked)
  await begin()
  await stack.resume(parked)
  return {
    'host-worker-backup': made,
    'host-worker-restore': restore,
    'host-worker-parked': await expectState(stack, parked, 'succeeded'),
  }
}

/** Over what is there: what asks, what executes, what removes the old one. */
async function swaps(stack: Stack, postgres: TestPostgres, shop: string): Promise<Record<string, Recorded>> {
  const anna = await addPerson(stack, 'anna', 'approver')
  await createDatabase(postgres.url(), 'shop')
  await postgres.sql("CREATE TABLE items (name text); INSERT INTO items VALUES ('one')", 'shop')
  await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
  const first = await stack.backup({ connection: 'pg', destinations: ['vault'] })
  await expectState(stack, first.id, 'succeeded')
  const ask = async (connection: string, database: string, more: Record<string, unknown> = {}) => {
    const target = { connection, database }
    const { body } = await askFor(anna, { backup: `${connection}:latest`, target, ...more })
    const view = await awaiting(stack, body.operation.id)
    if (view.state !== 'awaiting-approval') throw new Error(JSON.stringify(view.error))
    return view
  }
  const replaced = async (connection: string, database: string, more: Record<string, unknown>) => {
    const { id } = await ask(connection, database, more)
    await approve(stack, anna, id)
    return await expectState(stack, id, 'succeeded')
  }
  const postgresql = await replaced('pg', 'shop', { keepOldSeconds: 2 })
  const sqlite = await replaced('copied', shop, { safetyBackup: { destination: 'vault' } })
  const rejected = await ask('pg', 'shop')
  await anna.call('POST', `/v1/operations/${rejected.id}/reject`, { reason: 'not this one' })
  await expectState(stack, rejected.id, 'failed')
  await eventually('what was kept is dropped', async () =>
    (await stack.operation(postgresql.id)).kept?.state === 'dropped' ? true : undefined,
  )
  const exchanged = stack.workerApi.hold('before', (_method, url) => url.endsWith('/finishDestructive'))
  const ended = await ask('copied', shop)
  await approve(stack, anna, ended.id)
  await exchanged.reached
  await stack.terminate((await stack.operation(ended.id)).workflowId)
  exchanged.cut()
  const takeBack = { workflowId: takeBackWorkflowId(ended.id) }
  await eventually('the way back is begun', () =>
    new Client({ connection }).workflow.getHandle(takeBack.workflowId).describe(),
  )
  return {
    request: { workflowId: requestWorkflowId(postgresql.id) },
    'request-rejected': rejected,
    'swap-postgresql': postgresql,
    'swap-sqlite': sqlite,
    retire: { workflowId: retireWorkflowId(postgresql.id) },
    'take-back': takeBack,
  }
}

const stack = await startStack({
  env: { PATH: `${dirname(launcher)}:${process.env.PATH}`, HOLDFAST_LOG_TURN_SECONDS: '2' },
})
const postgres = await startPostgres()
const blobs = await startAzurite()
const connection = await Connection.connect({ address: stack.temporal.address })
try {
  const found = await operations(stack, postgres, blobs)
  const { serverIdentity } = await stack.expectOk<{ serverIdentity: string }>('GET', '/v1/connections/copied')
  // `sqlite:<machine>:<path>`
  const machine = serverIdentity.split(':')[1] ?? ''
  const replace = (text: string) =>
    text
      .replaceAll(stack.directory, '/tmp/holdfast')
      .replaceAll(encodeURIComponent(stack.directory), encodeURIComponent('/tmp/holdfast'))
      // Traces of errors.
      .replaceAll(`${root}/`, '/tmp/code/')
      .replaceAll(machine, '0'.repeat(machine.length))
      .replaceAll(hostname(), 'recorder')
  const client = new Client({ connection })
  await mkdir(target, { recursive: true })
  for (const [name, { workflowId, runId }] of Object.entries(found)) {
    const handle = client.workflow.getHandle(workflowId, runId ?? undefined)
    // The operation is told to be closed just before its workflow ends.
    await handle.result().catch(() => undefined)
    const history = JSON.parse(historyToJSON(await handle.fetchHistory())) as Json
    await writeFile(join(target, `${name}.json`), `${JSON.stringify(rewrite(history, replace), null, 1)}\n`)
    console.log(`${name}: ${workflowId}`)
  }
} finally {
  await connection.close()
  await stack.stop()
  await postgres.stop()
  await blobs.stop()
}
