/**
 * Drills on real servers: what they make is removed in every outcome and nothing else is touched; damage and unmet expectations
 * are told loudly; the report is signed by the installation.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { SignedDrillReport } from '../../model/drill-report.ts'
import type { DrillView, OperationView } from '../../model/views.ts'
import { verifyDrillReport } from '../../storage/drill-report.ts'
import { thumbprint } from '../../storage/keys.ts'
import { holdfast } from '../cli/run.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { type RecordedContainers, recordedContainers } from '../servers/recorded-containers.ts'
import { digestPostgres } from '../support/digest.ts'
import { addPerson } from '../support/people.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, processesWith } from './inspect.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'

const run = promisify(execFile)
/** Somebody else's, of a restore that this installation knows nothing of. */
const foreign = 'holdfast_abcdefghijkl'
const foreignFile = '.notes-1.holdfast-abcdefghijkl'

describe('drills', () => {
  let stack: Stack
  let worker: Process
  let containers: RecordedContainers
  let postgres: TestPostgres
  let disk = ''
  let scratch = ''
  let ground = ''
  let events = ''

  before(async () => {
    stack = await startStack({ worker: false })
    events = join(stack.directory, 'events')
    const program = join(stack.directory, 'notify')
    await writeFile(events, '')
    await writeFile(program, `#!/bin/sh\ncat >> '${events}'\n`)
    await chmod(program, 0o755)
    containers = await recordedContainers(
      join(stack.directory, 'docker'),
      'docker',
      '/usr/lib/postgresql/15/bin',
    )
    worker = startWorker()
    postgres = await startPostgres({ version: 15 })
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 2)
    await postgres.sql('ANALYZE', 'shop')
    await createDatabase(postgres.url(), foreign)
    await postgres.sql(`COMMENT ON DATABASE ${foreign} IS 'holdfast restore abcdefghijkl'`)
    disk = await directory(stack, 'disk')
    scratch = await directory(stack, 'scratch')
    await writeFile(join(scratch, foreignFile), 'not ours')
    ground = await mkdtemp(join(tmpdir(), 'holdfast-drill-'))
    if (process.getuid?.() === 0) await run('chown', ['postgres:', ground])
    makeRandomSqlite(join(stack.directory, 'notes.db'), 2)
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    for (const [name, url, method] of [
      ['notes', `sqlite:${join(stack.directory, 'notes.db')}`, 'physical'],
      ['shop', postgres.url('shop'), 'logical'],
      ['whole', postgres.url('shop'), 'physical'],
    ]) {
      await stack.expectOk('POST', '/v1/connections', { name, url, method, canary: true })
      const { id } = await stack.backup({ connection: name })
      assert.equal((await stack.ended(id)).state, 'succeeded')
    }
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    if (ground !== '') await rm(ground, { recursive: true, force: true })
  })

  const startWorker = () =>
    stack.startWorker({
      HOLDFAST_NOTIFY_COMMAND: join(stack.directory, 'notify'),
      PATH: `${containers.path}:${process.env.PATH}`,
    })
  const begin = async (body: Record<string, unknown>): Promise<OperationView> =>
    (await stack.expectOk<{ operation: OperationView }>('POST', '/v1/drills', body)).operation
  const drilled = async (body: Record<string, unknown>) => await stack.ended((await begin(body)).id)
  const reportOf = async (id: string): Promise<SignedDrillReport> =>
    await eventually(`drill ${id} has a report`, async () => {
      const answer = await stack.call<SignedDrillReport>('GET', `/v1/drills/${id}/report`)
      return answer.status === 200 ? answer.body : undefined
    })
  const listed = async (id: string): Promise<DrillView> => {
    const { items } = await stack.expectOk<{ items: DrillView[] }>('GET', '/v1/drills')
    const found = items.find(one => one.id === id)
    assert.ok(found, `${id} is listed`)
    return found
  }
  const alarms = async (): Promise<{ event: string; operation: string; error: { code: string } }[]> =>
    (await readFile(events, 'utf8'))
      .split('\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line))

  /** Of nobody but those who were there before. */
  const expectNothingLeft = async (id: string): Promise<void> => {
    const databases = (await postgres.sql('SELECT datname FROM pg_database ORDER BY 1')).split('\n')
    assert.deepEqual(databases, [foreign, 'postgres', 'shop', 'template0', 'template1'].sort())
    assert.deepEqual(await readdir(scratch), [foreignFile])
    assert.equal(await readFile(join(scratch, foreignFile), 'utf8'), 'not ours')
    assert.deepEqual(await readdir(ground), [])
    assert.deepEqual(processesWith(id), [])
    expectCleanHost(stack.home, id)
  }

  const byKind = {
    shop: { target: 'shop' },
    notes: { directory: () => scratch },
    whole: { directory: () => ground },
  } as const
  const where = (connection: keyof typeof byKind): Record<string, string> => {
    const place = byKind[connection]
    return 'target' in place ? { target: place.target } : { directory: place.directory() }
  }
  const query = { name: 'words', sql: 'SELECT count(*) FROM words', expect: '2' }

  for (const connection of ['shop', 'notes', 'whole'] as const) {
    test(`${connection}: passes, is measured, and leaves nothing`, async () => {
      const before = await digestPostgres(postgres.url('shop'))
      const view = await drilled({ backup: `${connection}:latest`, ...where(connection), queries: [query] })
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      await expectNothingLeft(view.id)
      assert.deepEqual(await digestPostgres(postgres.url('shop')), before)
      const report = await reportOf(view.id)
      assert.equal(report.verdict, 'passed')
      assert.equal(report.backup.newest, true)
      assert.equal(report.target.sameServer, true)
      assert.ok((report.rto.totalMs ?? 0) > 0, 'RTO')
      assert.ok(report.rpo.ageMs > 0, 'RPO')
      assert.ok(report.tornDownAt !== null)
      const words = report.rows.find(
        ({ table }) => table === (connection === 'notes' ? 'words' : 'public.words'),
      )
      assert.deepEqual(
        [words?.rows, words?.expected],
        [2, connection === 'notes' ? null : 2],
        JSON.stringify(report.rows),
      )
      const own = report.rows.filter(({ table }) => !table.startsWith('holdfast_canary'))
      assert.ok(own.every(({ rows, expected }) => expected === null || rows === expected))
      assert.equal(report.checks.find(({ id }) => id === 'examine.rows-expected')?.answer, 'pass')
      assert.equal(report.checks.find(({ id }) => id === 'examine.canary')?.answer, 'pass')
      assert.equal(report.canary?.backup, view.backup)
      assert.equal(report.canary.lsn === null, connection === 'notes')
      assert.deepEqual([report.rpo.by, report.rpo.dataAsOf], ['canary', report.canary.writtenAt])
      const asked = report.checks.find(({ id }) => id === 'examine.query-1')
      assert.deepEqual([asked?.answer, asked?.detail], ['pass', '2'])
      const { publicKey } = JSON.parse(await readFile(join(disk, 'installation.json'), 'utf8'))
      await verifyDrillReport(report, await thumbprint(publicKey))
    })
  }

  test('amcheck looks into the copy of a logical backup, and not into the server', async () => {
    const { id } = await drilled({ backup: 'shop:latest' })
    const { checks } = await reportOf(id)
    assert.equal(checks.find(one => one.id === 'examine.amcheck')?.answer, 'pass', JSON.stringify(checks))
    const made = await postgres.sql(
      "SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast_drill'",
      'shop',
    )
    assert.equal(made, '0')
  })

  for (const connection of ['shop', 'notes', 'whole'] as const) {
    test(`${connection}: an answer that is not the expected one fails it, loudly`, async () => {
      const queries = [
        query,
        { ...query, name: 'wrong', expect: '3' },
        { ...query, name: 'broken', sql: 'SELECT nothing' },
      ]
      const view = await drilled({ backup: `${connection}:latest`, ...where(connection), queries })
      assert.equal(view.state, 'failed')
      assert.equal(view.error?.code, 'drill.check-failed')
      await expectNothingLeft(view.id)
      const { verdict, checks } = await reportOf(view.id)
      assert.equal(verdict, 'failed')
      const answers = [1, 2, 3].map(index => checks.find(one => one.id === `examine.query-${index}`)?.answer)
      assert.deepEqual(answers, ['pass', 'fail', 'fail'])
      const told = (await alarms()).filter(one => one.operation === view.id)
      assert.deepEqual(
        told.map(one => [one.event, one.error.code]),
        [['drill.failed', 'drill.check-failed']],
      )
    })
  }

  test('a query writes nothing', async () => {
    const queries = [{ name: 'writes', sql: 'DELETE FROM words', expect: '' }]
    const view = await drilled({ backup: 'shop:latest', queries })
    assert.equal(view.error?.code, 'drill.check-failed')
    assert.match(view.error.detail, /read-only transaction/)
  })

  test('a worker that is killed while it plans, while the copy stands, and when it is gone: the next ones end it', async () => {
    const steps = ['storePlan', 'noteExamined', 'noteTornDown']
    const hold = (step: string) => stack.workerApi.hold('before', (_method, url) => url.endsWith(`/${step}`))
    let held = hold('storePlan')
    const { id } = await begin({ backup: 'shop:latest' })
    for (const next of [...steps.slice(1), undefined]) {
      await held.reached
      await worker.kill9()
      held.cut()
      if (next !== undefined) held = hold(next)
      worker = startWorker()
      if (next === 'noteTornDown') {
        await held.reached
        const there = await postgres.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'holdfast%'")
        assert.equal(there, '1', 'only that of somebody else')
      }
    }
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    await expectNothingLeft(id)
    assert.notEqual((await reportOf(id)).tornDownAt, null)
  })

  test('by the programs of an image: a worker is killed while its container runs, and the next one ends it', async () => {
    const container = { engine: 'docker', image: 'postgres:15' }
    const long = { name: 'long', sql: "SELECT 'x' FROM pg_sleep(4)", expect: 'x' }
    const body = { backup: 'whole:latest', directory: ground, container, queries: [query, long] }
    const { id } = await begin(body)
    await eventually('the copy is asked', async () => {
      const asked = (await stack.operation(id)).phases.some(({ phase }) => phase === 'examine')
      return asked && (await containers.there()).length === 1 ? true : undefined
    })
    await worker.kill9()
    worker = startWorker()
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.deepEqual(await containers.there(), [])
    await expectNothingLeft(id)
    assert.equal((await reportOf(id)).target.image, 'postgres:15')
    const mounts = (await containers.calls()).flatMap(call =>
      call.filter(word => word.startsWith('type=bind')),
    )
    assert.ok(mounts.length > 0 && mounts.every(mount => mount.startsWith(`type=bind,source=${ground}/`)))
    // Whoever names an image names what is run; and only a server's own files can be started by one.
    const otto = await addPerson(stack, 'otto', 'operator')
    assert.equal((await otto.call('POST', '/v1/drills', { ...body, queries: [] })).status, 403)
    assert.equal((await stack.refused('POST', '/v1/drills', { ...body, backup: 'notes:latest' })).status, 422)
    const moment = { connection: 'whole', to: { kind: 'latest' } }
    const ofMoment = { moment, directory: ground, container }
    assert.equal((await stack.refused('POST', '/v1/drills', ofMoment)).status, 422)
    const spec = { cron: '0 4 1 1 *', timeZone: 'UTC' }
    const schedule = { name: 'in-image', kind: 'drill', connection: 'notes', spec, options: { container } }
    assert.equal((await stack.refused('POST', '/v1/schedules', schedule)).status, 422)
  })

  test('cancelled while the copy stands: it is removed, and nobody is alarmed', async () => {
    const held = stack.workerApi.hold('before', (_method, url) => url.endsWith('/noteExamined'))
    const { id } = await begin({ backup: 'notes:latest', directory: scratch })
    await held.reached
    await stack.expectOk('POST', `/v1/operations/${id}/cancel`)
    const view = await stack.ended(id)
    held.release()
    assert.equal(view.state, 'cancelled')
    await expectNothingLeft(id)
    assert.equal((await reportOf(id)).verdict, 'cancelled')
    assert.deepEqual(
      (await alarms()).filter(one => one.operation === id),
      [],
    )
  })

  test('ended from outside: what it left is removed by itself, and the report says that it failed', async () => {
    const held = stack.workerApi.hold('before', (_method, url) => url.endsWith('/noteExamined'))
    const { id, workflowId } = await begin({ backup: 'shop:latest' })
    await held.reached
    await stack.terminate(workflowId)
    held.release()
    const view = await stack.ended(id)
    assert.equal(view.error?.code, 'operation.terminated')
    await stack.expectOk('POST', '/v1/drills/cleanup', {})
    await eventually('the copy is gone', async () =>
      (await listed(id)).tornDownAt === null ? undefined : true,
    )
    await expectNothingLeft(id)
    assert.equal((await reportOf(id)).verdict, 'failed')
    const again = await stack.expectOk<{ items: string[] }>('POST', '/v1/drills/cleanup', {})
    assert.deepEqual(again.items, [])
  })

  test('what takes longer than its limit fails, and leaves nothing', async () => {
    const held = stack.workerApi.hold('before', (_method, url) => url.endsWith('/noteExamined'))
    const { id } = await begin({ backup: 'notes:latest', directory: scratch, maxSeconds: 3 })
    const view = await stack.ended(id)
    held.release()
    assert.equal(view.error?.code, 'drill.too-slow', JSON.stringify(view.error))
    await expectNothingLeft(id)
  })

  test('what is larger than its limit is refused', async () => {
    const refused = await stack.refused('POST', '/v1/drills', { backup: 'notes:latest', maxBytes: 1000 })
    assert.equal(refused.body.code, 'drill.too-large')
  })

  test('on a schedule; the status shows the last one', async () => {
    const spec = { cron: '0 4 1 1 *', timeZone: 'UTC' }
    const schedule = { name: 'rehearsal', kind: 'drill', connection: 'notes', spec, options: where('notes') }
    await stack.expectOk('POST', '/v1/schedules', schedule)
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/schedules/rehearsal/trigger',
      {},
    )
    assert.equal((await stack.ended(operation.id)).state, 'succeeded')
    await reportOf(operation.id)
    const { databases } = await stack.expectOk<{
      databases: { connection: string; drill: DrillView | null; restore: { basis: string } | null }[]
    }>('GET', '/v1/status')
    const notes = databases.find(one => one.connection === 'notes')
    assert.deepEqual([notes?.drill?.id, notes?.drill?.verdict], [operation.id, 'passed'])
    // Nothing of it was ever restored but by drills.
    assert.equal(notes?.restore?.basis, 'restores-of-this')
  })

  test('by the command line, with a page that stands alone', async () => {
    const env = { HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token }
    const quick = await holdfast(['drill', 'quick', 'notes', '--directory', scratch, '--json'], { env })
    assert.equal(quick.code, 0, quick.stderr)
    const list = await holdfast(['drill', 'list', 'notes', '--json'], { env })
    const [newest] = JSON.parse(list.stdout) as DrillView[]
    assert.equal(newest?.verdict, 'passed')
    const file = join(stack.directory, 'drill.html')
    const written = await holdfast(['drill', 'report', newest.id, '--html', file], { env })
    assert.equal(written.code, 0, written.stderr)
    const { fingerprint } = await stack.expectOk<{ fingerprint: string }>('GET', '/v1/status')
    const checked = await holdfast(['drill', 'check', file, '--fingerprint', fingerprint])
    assert.equal(checked.code, 0, checked.stderr)
    const html = await readFile(file, 'utf8')
    await writeFile(file, html.replaceAll('passed', 'failed'))
    const forged = await holdfast(['drill', 'check', file, '--fingerprint', fingerprint])
    assert.notEqual(forged.code, 0)
    assert.match(forged.stderr, /manifest\.forged/)
    assert.doesNotMatch(html, /\b(?:src|href)=/)
    assert.match(html, /<svg/)
  })

  test('a copy without the canary that was written before its backup is not as fresh as it says', async () => {
    const hooks = (items: Record<string, unknown>[]) =>
      stack.expectOk('PUT', '/v1/connections/notes/hooks', { items })
    await hooks([{ name: 'thief', of: 'backup', at: 'before', run: { sql: 'DELETE FROM holdfast_canary' } }])
    const made = await stack.ended((await stack.backup({ connection: 'notes' })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    await hooks([])
    const view = await drilled({ backup: made.backup, directory: scratch })
    assert.equal(view.error?.code, 'drill.check-failed')
    const { checks, rpo } = await reportOf(view.id)
    assert.equal(checks.find(({ id }) => id === 'examine.canary')?.answer, 'fail')
    assert.equal(rpo.by, 'backup')
    await expectNothingLeft(view.id)
  })

  test('a canary that may not be written is a warning, and the backup stands', async () => {
    await postgres.sql('CREATE ROLE reader LOGIN IN ROLE pg_read_all_data')
    const url = postgres.url('shop').replace('postgres@', 'reader@')
    await stack.expectOk('POST', '/v1/connections', { name: 'reading', url, canary: true })
    const made = await stack.ended((await stack.backup({ connection: 'reading' })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    assert.match(made.warnings.join(), /The canary was not written: .*permission denied/)
    await stack.expectOk('POST', '/v1/connections/reading/policy', { canary: false })
  })

  test('a damaged backup fails it, loudly: the status says so', async () => {
    const [backup] = await stack.backups('notes')
    assert.ok(backup)
    const folder = join(disk, 'notes', 'backups', backup.id)
    const attempt = (await readdir(folder, { withFileTypes: true })).find(entry => entry.isDirectory())
    assert.ok(attempt)
    const artifacts = (await readdir(join(folder, attempt.name))).filter(name => !name.startsWith('keys-'))
    const path = join(folder, attempt.name, artifacts[0] ?? '')
    const bytes = await readFile(path)
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 0x10
    await rm(path)
    await writeFile(path, bytes)
    const view = await drilled({ backup: 'notes:latest', directory: scratch })
    assert.equal(view.state, 'failed')
    assert.equal(view.error?.code, 'artifact.corrupted')
    await expectNothingLeft(view.id)
    assert.equal((await reportOf(view.id)).verdict, 'failed')
    assert.ok((await alarms()).some(one => one.operation === view.id && one.event === 'drill.failed'))
    const { databases } = await stack.expectOk<{
      databases: { connection: string; level: string; problems: { detail: string }[] }[]
    }>('GET', '/v1/status')
    const notes = databases.find(one => one.connection === 'notes')
    assert.equal(notes?.level, 'critical')
    assert.ok(notes.problems.some(({ detail }) => detail.includes('The last drill failed')))
  })
})
