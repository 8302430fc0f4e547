/**
 * Recovery to a point in time through the whole product, from one base backup and one archive: under a writer that notes outside
 * of the database after which place of the log, and when, each of its commits was answered. Each copy has exactly the commits that
 * its target names.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { readdir, rename } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import type { SignedDrillReport } from '../../model/drill-report.ts'
import type { RecoveryWindowsView } from '../../model/recovery-views.ts'
import type { OperationView } from '../../model/views.ts'
import { parseLsn } from '../../model/wal.ts'
import { holdfast } from '../cli/run.ts'
import { postgresBinaries, psql, startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { addPerson, approve, awaiting } from '../support/people.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { archived, type Site, site } from '../wal/site.ts'
import { expectCleanHost, processesWith } from './inspect.ts'
import {
  type Commit,
  makeGround,
  makeLedger,
  numbersIn,
  random,
  recoveries,
  withLauncher,
  write as writeOne,
} from './recovering.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'

describe('recovery to a point in time', () => {
  let stack: Stack
  let worker: Process
  let place: Scratch
  let on: Site
  let agent: Awaited<ReturnType<Site['startAgent']>>
  let server: TestPostgres
  let ground = ''
  let backup = ''
  let copies: ReturnType<typeof recoveries>
  const commits: Commit[] = []
  const commit = (number: number): Commit => commits[number - 1] ?? assert.fail(`commit ${number}`)
  const upTo = (last: number) => commits.map(({ number }) => number).filter(number => number <= last)

  const stopAgent = async () => {
    agent?.child.kill('SIGTERM')
    await agent?.ended
  }
  const write = async (count: number) => {
    for (let i = 0; i < count; i += 1) commits.push(await writeOne(server.sql))
  }
  const windows = () => stack.expectOk<RecoveryWindowsView>('GET', '/v1/connections/shop/windows')

  before(async () => {
    place = await scratch()
    on = await site(place.path)
    stack = await startStack({ env: withLauncher })
    assert.ok(stack.worker)
    worker = stack.worker
    ground = await makeGround()
    copies = recoveries(stack, ground, on.configOf('a'))
    server = await startPostgres({
      version: 15,
      config: `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'\nwal_keep_size = 1GB`,
    })
    await on.configured('a', server.dataDir)
    agent = await on.startAgent('a')
    await makeLedger(server.sql)
    await server.sql("SELECT pg_create_physical_replication_slot('keeper', true)")
    // What it would reach out to if it were started as it is: as on a server that was a standby once.
    await server.sql(`ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=${server.port} user=postgres'`)
    await server.sql("ALTER SYSTEM SET primary_slot_name = 'keeper'")
    await archived(server.sql)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: on.store })
    const url = server.url('postgres')
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url, method: 'physical' })
    await write(5)
    const made = await stack.ended((await stack.backup({ connection: 'shop', destinations: ['vault'] })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    backup = made.backup
    // A time before the backup ended, by the clock of Holdfast, is no time after it.
    await sleep(10)
    for (let segment = 0; segment < 4; segment += 1) {
      await write(8)
      if (segment === 1)
        await stack.expectOk('POST', '/v1/connections/shop/restore-points', { name: 'deploy' })
      await server.sql('SELECT pg_switch_wal()')
    }
    // Nothing happens for a while.
    await sleep(700)
    await write(8)
    await archived(server.sql)
  })
  after(async () => {
    await stack?.stop()
    await stopAgent()
    if (server) await pgCtl('stop', '-m', 'immediate').catch(() => {})
    await server?.stop()
    await copies?.remove()
    await place?.[Symbol.asyncDispose]()
  })

  /** Of the server that is to be replaced, which must not end with this process. */
  const pgCtl = async (...args: string[]) => {
    const user =
      process.getuid?.() === 0 ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups'] : []
    const { bin } = await postgresBinaries(15)
    const [program = '', ...more] = [...user, join(bin, 'pg_ctl'), ...args, '-s', '-w', '-D', server.dataDir]
    await promisify(execFile)(program, more, { cwd: '/' })
  }

  /** As soon as it is so. */
  const when = async <T>(what: string, ask: () => T | undefined): Promise<T> => {
    for (const until = Date.now() + 90_000; Date.now() < until; await sleep(2)) {
      const answer = ask()
      if (answer !== undefined) return answer
    }
    const open = await stack.expectOk('GET', '/v1/operations?connection=shop')
    throw new Error(`${what}: not within 90 s: ${JSON.stringify(open).slice(0, 2000)}`)
  }

  /** A copy that runs and writes archives nothing, and is nobody's standby, subscriber or reader. */
  const expectAlone = async (copy: TestPostgres) => {
    const before = await server.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'wal%r'")
    await copy.sql('INSERT INTO ledger DEFAULT VALUES')
    await copy.sql('SELECT pg_switch_wal()')
    await copy.sql('CHECKPOINT')
    assert.equal(await copy.sql('SELECT archived_count + failed_count FROM pg_stat_archiver'), '0')
    const waiting = await readdir(join(copy.dataDir, 'pg_wal/archive_status'))
    assert.deepEqual(
      waiting.filter(name => name.endsWith('.ready')),
      [],
    )
    assert.equal(await copy.sql('SELECT count(*) FROM pg_stat_wal_receiver'), '0')
    assert.equal(await copy.sql('SELECT count(*) FROM pg_replication_slots'), '0')
    const after = await server.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'wal%r'")
    assert.equal(after, before)
  }

  test('a drill of a moment: replayed, measured by its last transaction, and gone', async () => {
    const { lsn, number } = commit(random(6, commits.length - 1))
    const queries = [
      { name: 'the prefix', sql: 'SELECT max(number), count(*) FROM ledger', expect: `${number}|${number}` },
    ]
    const drill = async (to: unknown) => {
      const moment = { connection: 'shop', to, walConfig: on.configOf('a') }
      const body = { moment, directory: ground, queries }
      return (await stack.expectOk<{ operation: OperationView }>('POST', '/v1/drills', body)).operation
    }
    const segments = await server.sql('SELECT archived_count FROM pg_stat_archiver')
    const { id } = await copies.succeeded(await drill({ kind: 'lsn', lsn, inclusive: false }))
    const { rows, rpo, rto, moment } = await stack.expectOk<SignedDrillReport>(
      'GET',
      `/v1/drills/${id}/report`,
    )
    assert.equal(moment?.target, `lsn ${lsn}`)
    assert.ok((rto.steps.find(({ step }) => step === 'replay')?.ms ?? 0) > 0, JSON.stringify(rto))
    assert.equal(rpo.by, 'replay')
    const { at } = commit(number)
    assert.ok(
      Math.abs(Date.parse(rpo.dataAsOf) - Date.parse(at)) < 1000,
      `${rpo.dataAsOf}, committed at ${at}`,
    )
    assert.deepEqual(await readdir(ground), [])
    // What the base backup says of its rows says nothing of a later moment.
    assert.ok(rows.length > 0 && rows.every(({ expected }) => expected === null), JSON.stringify(rows))
    // Nothing of it is in the archive of the production, and no slot of it was taken.
    assert.equal(await server.sql('SELECT archived_count FROM pg_stat_archiver'), segments)
    assert.equal(await server.sql('SELECT slot_name, active FROM pg_replication_slots'), 'keeper|f')
    assert.deepEqual(
      (await windows()).archives[0]?.windows.map(({ timeline }) => timeline),
      [1],
    )
    await stack.expectOk('POST', '/v1/schedules', {
      name: 'rehearsal',
      kind: 'drill',
      connection: 'shop',
      spec: { cron: '0 4 1 1 *', timeZone: 'UTC' },
      options: { endOfLog: true, walConfig: on.configOf('a'), directory: ground, quick: true },
    })
    const due = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      '/v1/schedules/rehearsal/trigger',
      {},
    )
    const scheduled = await copies.succeeded(due.operation)
    assert.ok(scheduled.phases.some(({ phase }) => phase === 'replay'))
    assert.deepEqual(await readdir(ground), [])
    const unreachable = await stack.refused('POST', '/v1/drills', {
      moment: { connection: 'shop', to: { kind: 'lsn', lsn: 'FF/0' } },
    })
    assert.equal(unreachable.body.code, 'pitr.unreachable')
  })

  test('a drill of a moment whose worker and server are killed while it replays: it ends, and nothing is left', async () => {
    const body = {
      moment: { connection: 'shop', to: { kind: 'latest' }, walConfig: on.configOf('a') },
      directory: ground,
      quick: true,
    }
    const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', '/v1/drills', body)
    await eventually('it replays', async () =>
      (await stack.operation(operation.id)).phases.some(({ phase }) => phase === 'replay') ? true : undefined,
    )
    await worker.kill9()
    for (const line of processesWith(operation.id)) {
      try {
        process.kill(Number.parseInt(line, 10), 'SIGKILL')
      } catch {
        // Ended meanwhile.
      }
    }
    worker = stack.startWorker()
    const view = await stack.ended(operation.id, 240)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    expectCleanHost(stack.home, operation.id)
    assert.deepEqual(await readdir(ground), [])
  })

  test('random targets: each copy is the prefix of the commits that its target names', async () => {
    const first = 6
    const last = commits.length
    const idle = 37
    const [byLsn, byTime, byXid, without, taken] = [
      random(first, last - 1),
      random(first, last - 1),
      random(first, last),
      random(first + 1, last),
      random(first, last - 1),
    ]
    const gap = new Date((Date.parse(commit(idle).at) + Date.parse(commit(idle + 1).at)) / 2).toISOString()
    const port = await freePort()
    const used = { start: true, port: server.port }
    const targets: [string, unknown, number, Record<string, unknown>?][] = [
      ['lsn', { kind: 'lsn', lsn: commit(byLsn).lsn, inclusive: false }, byLsn],
      ['time', { kind: 'time', time: commit(byTime).at }, byTime],
      ['idle', { kind: 'time', time: gap }, idle],
      ['xid', { kind: 'xid', xid: commit(byXid).xid }, byXid, { base: backup }],
      ['without', { kind: 'xid', xid: commit(without).xid, inclusive: false }, without - 1, { base: backup }],
      ['taken', { kind: 'lsn', lsn: commit(taken).lsn, inclusive: false }, taken, used],
      ['latest', { kind: 'latest' }, last],
      ['point', { kind: 'name', name: 'deploy' }, 21, { start: true, port }],
    ]
    const begun: OperationView[] = []
    for (const [name, to, , more] of targets) begun.push(await copies.recover(to, name, more))
    const ended = await Promise.all(
      begun.map((operation, index) =>
        // Somebody listens there: the copy is whole all the same, and stays.
        targets[index]?.[3] === used
          ? copies.failed(operation, 'pitr.not-started')
          : copies.succeeded(operation),
      ),
    )
    for (const { phases } of ended) {
      assert.match(phases.find(({ phase }) => phase === 'replay')?.summary ?? '', /read to .*, timeline 2$/)
    }
    assert.deepEqual((await readdir(ground)).sort(), targets.map(([name]) => name).sort())
    // One was left running, and is nobody's child.
    const running = await psql(
      `postgres://postgres@127.0.0.1:${port}/postgres`,
      'SELECT max(number) FROM ledger',
    )
    assert.equal(running, '21')
    const pid = Number(readFileSync(join(ground, 'point/postmaster.pid'), 'utf8').split('\n')[0])
    process.kill(pid, 'SIGINT')
    await when('it has stopped', () => (processesWith(ground).length > 0 ? undefined : true))
    for (const [name, , number] of targets) {
      await copies.expectNumbers(name, upTo(number), name === 'latest' ? expectAlone : undefined)
    }
    // None of them touched the server, or its archive.
    assert.equal(await server.sql('SELECT slot_name, active FROM pg_replication_slots'), 'keeper|f')
    const [archive] = (await windows()).archives
    assert.deepEqual(
      archive?.windows.map(({ timeline }) => timeline),
      [1],
    )
  })

  test('what the log does not reach is refused before anything is touched, with what can be recovered', async () => {
    const { archives } = await windows()
    const [interval] = archives[0]?.windows[0]?.intervals ?? []
    assert.ok(interval)
    const later = new Date(Date.now() + 3_600_000).toISOString()
    const cases: [unknown, string, RegExp, Record<string, unknown>?][] = [
      [{ kind: 'time', time: '2026-11-22T03:14:00' }, 'request.invalid', /zone/],
      [{ kind: 'time', time: commit(1).at }, 'pitr.unreachable', /No base backup/],
      [{ kind: 'time', time: later }, 'pitr.unreachable', /which was archived at/],
      [{ kind: 'lsn', lsn: commit(1).lsn }, 'pitr.unreachable', /cannot be recovered/],
      [{ kind: 'lsn', lsn: interval.to }, 'pitr.unreachable', /cannot be recovered/],
      [{ kind: 'name', name: 'before-deploy' }, 'pitr.base-wanted', new RegExp(backup)],
      [{ kind: 'latest' }, 'pitr.unreachable', /nothing of timeline 9/, { timeline: 9 }],
      [{ kind: 'latest' }, 'request.invalid', /promote/, { action: 'pause' }],
      [{ kind: 'latest' }, 'request.invalid', /port of its own/, { start: true }],
      [{ kind: 'latest' }, 'request.invalid', /say why/, { overwriteExisting: true }],
      [
        { kind: 'latest' },
        'request.invalid',
        /not with overwriteExisting/,
        { overwriteExisting: true, reason: 'wrong', port: 5999 },
      ],
    ]
    for (const [to, code, said, more] of cases) {
      const { status, body } = await stack.refused('POST', '/v1/pitr', copies.asked(to, 'refused', more))
      assert.equal(body.code, code, `${JSON.stringify(to)}: ${status} ${JSON.stringify(body)}`)
      assert.match(JSON.stringify(body), said)
      if (code === 'pitr.unreachable') assert.ok(body.detail.includes(`${interval.from} to ${interval.to}`))
    }
    await copies.expectNothing('refused')
  })

  test('a place within a hole is refused; one that only shows while it replays ends the recovery', async () => {
    const name = await server.sql(`SELECT pg_walfile_name('${commit(20).lsn}')`)
    const folder = (await readdir(on.store, { recursive: true })).find(path => path.endsWith(`${name}.wal`))
    const path = join(on.store, folder ?? assert.fail(name))
    await rename(path, `${path}.away`)
    try {
      for (const to of [{ kind: 'lsn', lsn: commit(20).lsn }, { kind: 'latest' }]) {
        const { body } = await stack.refused('POST', '/v1/pitr', copies.asked(to, 'hole'))
        assert.equal(body.code, 'pitr.unreachable', JSON.stringify(body))
        assert.match(body.detail, new RegExp(name))
      }
      // What it has fetched ahead for others is forgotten.
      await stopAgent()
      agent = await on.startAgent('a')
      // Nobody asks the names where a transaction lies.
      const to = { kind: 'xid', xid: commit(commits.length).xid }
      await copies.failed(await copies.recover(to, 'hole', { base: backup }), 'wal.gap')
      await copies.expectNothing('hole')
    } finally {
      await rename(`${path}.away`, path)
    }
  })

  test('the log ends before the target: an error with the last transaction, and no copy', async () => {
    const to = { kind: 'time', time: commit(commits.length).at }
    const view = await copies.failed(await copies.recover(to, 'ended'), 'pitr.not-reached')
    assert.match(view.error?.detail ?? '', /the last transaction in it is of \d{4}-/)
    await copies.expectNothing('ended')
    // As the hint says: a transaction after it proves that nothing came before.
    assert.match(view.error?.hint ?? '', /SELECT pg_current_xact_id\(\)/)
    await server.sql('SELECT pg_current_xact_id()')
    await archived(server.sql)
    await copies.succeeded(await copies.recover(to, 'ended'))
    await copies.expectNumbers('ended', upTo(commits.length))
  })

  test('the command line; a copy that is to stay in recovery does', async () => {
    const words = ['pitr', 'shop', '--to', `lsn:${commit(12).lsn}`, '--exclusive', '--action', 'shutdown']
    const more = ['--directory', join(ground, 'still'), '--wal-config', on.configOf('a'), '--port', '5999']
    const env = { HOLDFAST_HOME: stack.home, HOLDFAST_URL: stack.apiUrl }
    const dry = await holdfast([...words, ...more, '--dry-run'], { env })
    assert.equal(dry.code, 0, dry.stderr)
    assert.match(dry.stdout, /recovery_target_lsn=/)
    await copies.expectNothing('still')
    const done = await holdfast([...words, ...more], { env })
    assert.equal(done.code, 0, done.stderr)
    assert.ok(existsSync(join(ground, 'still/recovery.signal')))
    const own = readFileSync(join(ground, 'still/postgresql.auto.conf'), 'utf8')
    assert.match(own, /^port = '5999'$/m)
    assert.match(own, /^recovery_target_action = 'shutdown'$/m)
  })

  test('one database of it, into the server that goes on', async () => {
    const sql = { name: 'sql', url: server.url('postgres'), method: 'logical' }
    await stack.expectOk('POST', '/v1/connections', sql)
    const number = random(6, commits.length - 1)
    const to = { kind: 'lsn', lsn: commit(number).lsn, inclusive: false }
    const only = { database: 'postgres', into: { connection: 'sql', database: 'then' } }
    const view = await copies.succeeded(await copies.recover(to, 'scratch', { only }))
    const said = view.phases.find(({ phase }) => phase === 'load')?.summary ?? ''
    const [, id = ''] = /goes on as (op-\S+)/.exec(said) ?? assert.fail(said)
    await copies.succeeded({ id })
    assert.deepEqual(await numbersIn(text => server.sql(text, 'then')), upTo(number))
    await copies.expectNothing('scratch')
    assert.deepEqual(processesWith('holdfast-copy-'), [])
    assert.deepEqual(
      (await readdir(tmpdir())).filter(name => name.startsWith('holdfast-copy-')),
      [],
    )
    const { body } = await stack.refused(
      'POST',
      '/v1/pitr',
      copies.asked(to, 'scratch', { only: { ...only, into: { ...only.into, connection: 'shop' } } }),
    )
    assert.equal(body.code, 'restore.mismatch', JSON.stringify(body))
  })

  const newWorker = async () => {
    await worker.kill9()
    worker = stack.startWorker()
  }

  test('worker and server are killed in each phase: the same copy', async () => {
    const number = random(30, commits.length - 1)
    const to = { kind: 'lsn', lsn: commit(number).lsn, inclusive: false }
    const temporary = `${join(ground, 'killed')}.holdfast-`
    const pidOf = (program: RegExp) => {
      const found = processesWith(temporary).filter(line => program.test(line))
      // The server is older than its children, which have its words until they say their own.
      return found.length === 0 ? undefined : Math.min(...found.map(line => Number.parseInt(line, 10)))
    }
    const unpacking = () => pidOf(/^\d+ tar -x /)
    const replaying = () => pidOf(/^\d+ \S*\/postgres -D .* recovery_target_timeline/)
    const proving = () => pidOf(/^\d+ \S*\/postgres -D .* restore_command= /)
    const atTarget = () => {
      const copy = readdirSync(ground).find(name => name.startsWith('killed.holdfast-'))
      const log = copy && readdirSync(join(ground, copy)).find(name => name.endsWith('.replayed.log'))
      if (!log || !/recovery stopping/.test(readFileSync(join(ground, copy, log), 'utf8'))) return undefined
      return replaying()
    }
    const named = () => existsSync(join(ground, 'killed'))
    /** On a busy machine it may be over before it was seen. */
    const seen = async (what: string, pid: () => number | undefined, isOver: () => boolean) => {
      const found = await when(what, () => pid() ?? (isOver() ? 'over' : undefined))
      return found === 'over' ? undefined : found
    }
    const kill = (pid: number | undefined) => {
      try {
        if (pid !== undefined) process.kill(pid, 'SIGKILL')
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH')
      }
    }
    const operation = await copies.recover(to, 'killed')
    await seen('it unpacks', unpacking, () => replaying() !== undefined)
    await newWorker()
    kill(await when('it replays', replaying))
    await when('it replays again', replaying)
    await newWorker()
    const stopping = await seen('it is at its target', atTarget, () => proving() !== undefined || named())
    kill(stopping)
    // As if it had left recovery in that moment: it holds more of the log than it was to replay.
    const copy = readdirSync(ground).find(name => name.startsWith('killed.holdfast-'))
    if (stopping !== undefined && copy) rmSync(join(ground, copy, 'recovery.signal'), { force: true })
    kill(await seen('it proves itself', proving, named))
    await seen('it proves itself again', proving, named)
    await newWorker()
    await when('it has its name', () => named() || undefined)
    await newWorker()
    const view = await copies.succeeded(operation)
    assert.deepEqual(processesWith(temporary), [])
    const stopped = view.phases.find(({ phase }) => phase === 'replay')?.summary ?? ''
    const at = parseLsn(/read to (\S+),/.exec(stopped)?.[1] ?? '')
    assert.ok(at !== undefined && at >= (parseLsn(commit(number).lsn) ?? 0n), stopped)
    assert.deepEqual(
      (await readdir(ground)).filter(name => name.startsWith('killed')),
      ['killed'],
    )
    assert.deepEqual(
      (await readdir(join(ground, 'killed'))).filter(name => name.startsWith('holdfast-')),
      [],
    )
    await copies.expectNumbers('killed', upTo(number))
  })

  /** The last one: the server is another one afterwards. */
  test('in its place, once approved: the commits up to the target, and its log goes on in the archive', async () => {
    const anna = await addPerson(stack, 'anna', 'approver')
    const url = `${server.url('postgres')}?supervisor=pg_ctl`
    await stack.expectOk('POST', '/v1/connections', { name: 'live', url, method: 'physical' })
    await server.kill9()
    await pgCtl('start', '-l', join(ground, 'live.log'), '-o', `-p ${server.port}`)
    const { status, body } = await anna.call<{ operation: OperationView }>('POST', '/v1/pitr', {
      ...copies.asked({ kind: 'lsn', lsn: commit(20).lsn, inclusive: false }, ''),
      target: { connection: 'live', directory: server.dataDir },
      ...{ overwriteExisting: true, reason: 'a bad migration', keepOldSeconds: 1 },
    })
    assert.equal(status, 202, JSON.stringify(body))
    const { id } = body.operation
    assert.equal((await awaiting(stack, id)).state, 'awaiting-approval')
    assert.equal((await approve(stack, anna, id)).status, 202)
    const view = await copies.succeeded({ id })
    const phases = view.phases.map(({ phase }) => phase).join(' ')
    assert.match(phases, /approval .*restore replay prove swap prove finish/)
    assert.deepEqual(await numbersIn(server.sql), upTo(20))
    assert.equal(await server.sql('SHOW archive_mode'), 'on')
    // Copies before it had taken no number of the archive's.
    assert.equal(await server.sql('SELECT timeline_id FROM pg_control_checkpoint()'), '2')
    await server.sql('INSERT INTO ledger DEFAULT VALUES')
    await archived(server.sql)
    const [archive] = (await windows()).archives
    assert.deepEqual(archive?.windows.map(({ timeline }) => timeline).sort(), [1, 2])
    const kept = view.kept?.name ?? assert.fail('nothing is kept')
    await eventually('the old one is removed', async () => (existsSync(kept) ? undefined : true))
  })
})
