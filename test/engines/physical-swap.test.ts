/**
 * A restored copy takes the place of a data directory, on real servers: killed before each act that changes anything there is the
 * old directory or the new one, whole, and whoever goes on ends with the one that is wanted, running.
 */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import {
  appendFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import type { Command, ExistingTarget, RestorePlan, RestoreTarget, Step, Swap } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Allowance } from '../../model/types.ts'
import { postgresBinaries, psql, startPostgres } from '../servers/postgres.ts'
import { recordedSystemctl } from '../servers/recorded-systemctl.ts'
import { ask, backUp, expectOk, newToken, type PlainBackup, runCommand, runSteps } from '../support/run.ts'
import { type Scratch, scratch } from '../support/temporary.ts'

const run = promisify(execFile)
const engine = engineOf('postgresql')
const physical = engine.methods.physical ?? assert.fail()
const asPostgres =
  process.getuid?.() === 0 ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups'] : []

const path = process.env.PATH
let dir: Scratch
let ground = ''
let live = ''
let port = 0
let bin = ''
let backup: PlainBackup

const as = async (...argv: [string, ...string[]]) => {
  const [program = '', ...args] = [...asPostgres, ...argv]
  return await run(program, args, { cwd: '/' })
}
const url = (database = 'postgres') => `postgres://postgres@127.0.0.1:${port}/${database}`
const sql = (text: string) => psql(url(), text)
const settingsOf = (query = '?supervisor=pg_ctl') => engine.parseUrl(`${url()}${query}`).settings
const start = (directory = live) =>
  as(join(bin, 'pg_ctl'), 'start', '-s', '-w', '-D', directory, '-l', `${live}.log`, '-o', `-p ${port}`)
const stop = (directory = live) => as(join(bin, 'pg_ctl'), 'stop', '-s', '-w', '-m', 'fast', '-D', directory)

let places = 0
const place = () => ({ staging: join(dir.path, `staging-${++places}`), secrets: {} })
const word = async () => await sql('SELECT word FROM now')

before(async () => {
  dir = await scratch()
  ground = await mkdtemp(join(tmpdir(), 'holdfast-swap-'))
  if (process.getuid?.() === 0) await run('chown', ['postgres:', ground])
  bin = (await postgresBinaries()).bin
  // Nobody cuts the power here: what goes to disk is asked of the acts (`expectDurable`).
  const programs = join(ground, 'bin')
  await as('mkdir', programs)
  await writeFile(join(programs, 'sync'), '#!/bin/sh\n', { mode: 0o755 })
  process.env.PATH = `${programs}:${path}`
  port = await freePort()
  live = join(ground, 'live')
  await as('mkdir', '-m', '0700', live)
  const made = await startPostgres({
    dataDir: live,
    port,
    logFile: join(dir.path, 'first.log'),
    config: 'archive_mode = on\narchive_command = true\nwal_keep_size = 1GB\nfsync = off',
  })
  await made.sql(
    "CREATE EXTENSION amcheck; CREATE TABLE now (word text); INSERT INTO now VALUES ('backed up')",
  )
  backup = await backUp(engine, physical, settingsOf(), place(), { toolFormat: 'tar' })
  await made.sql("UPDATE now SET word = 'later'")
  await made.stop()
  await appendFile(join(live, 'postgresql.conf'), "holdfast.ours = 'of the present one'\n")
  await start()
})
after(async () => {
  process.env.PATH = path
  await as(join(bin, 'pg_ctl'), 'stop', '-s', '-w', '-m', 'immediate', '-D', live).catch(() => {})
  await dir?.[Symbol.asyncDispose]()
  if (ground !== '') await rm(ground, { recursive: true, force: true })
})

const existing = async (query?: string, allow?: readonly Allowance[]): Promise<ExistingTarget> =>
  (await ask(place(), physical.existing(settingsOf(query), 'live', live, allow))) ??
  assert.fail('nothing is there')

interface Ready {
  target: RestoreTarget
  plan: RestorePlan
  swap: Swap
  copy: string
  kept: string
  journal: string
  mark: string
  old: number
  inode: number
}

const token = newToken()
/** What was restored, for tests that come after one that took it away. */
let pristine: string | undefined

/** Restored beside, proven, and made ready for its place: once. */
async function ready(query?: string, allow: readonly Allowance[] = []): Promise<Ready> {
  const replaces = await existing(query, allow)
  const copy = `${live}.holdfast-${token}`
  const target = { connection: 'live', database: live, replaces, allow, token, jobs: 1, noOwner: false }
  const settings = settingsOf(query)
  const targetFacts = await ask(place(), engine.probeTarget('live', settings, 'physical'))
  targetFacts.identity = `postgresql:${replaces.identity.split(':')[1]}/127.0.0.1:${port}`
  const checks = await ask(place(), physical.targetChecks(settings, target, backup.manifest))
  assert.deepEqual(
    checks.filter(({ answer }) => answer !== 'pass'),
    [],
  )
  const plan = physical.planRestore(settings, target, backup.manifest, targetFacts)
  const swap = plan.swap ?? assert.fail('no swap')
  if (pristine === undefined) {
    const here = place()
    await runSteps(engine, here, backup, plan.steps)
    await prove(target, 'temporary')
    await runSteps(engine, here, backup, swap.prepare)
    pristine = join(dir.path, 'pristine')
    await run('cp', ['-a', copy, pristine])
  } else if (!existsSync(copy)) {
    await run('cp', ['-a', pristine, copy])
  }
  return {
    ...{ target, plan, swap, copy, kept: `${live}.old-${token}`, journal: `${copy}.journal` },
    mark: `holdfast-restore-${token}`,
    old: (await stat(live)).ino,
    inode: (await stat(copy)).ino,
  }
}

async function prove(target: RestoreTarget, where: 'temporary' | 'swapped') {
  const settings = settingsOf()
  const targetFacts = await ask(place(), engine.probeTarget('live', settings, 'physical'))
  const checks = await ask(place(), physical.proofs(settings, target, backup.manifest, where, targetFacts))
  assert.deepEqual(
    checks.filter(({ answer }) => answer === 'fail'),
    [],
  )
  return checks.map(({ id }) => id)
}

/**
 * Its own process group, so that nothing of it outlives the kill. Killed before one of its acts (`own`), or before and after one of
 * its words to the supervisor. Answers the exit code, null where it was killed, and its acts, a line each.
 */
async function runKilled(
  command: Command,
  at: number,
  { without = '', around = 'own' }: { without?: string; around?: 'own' | 'systemctl' } = {},
): Promise<{ code: number | null; acts: string[] }> {
  const [program, dash, text = '', ...args] = command.stages[0].argv
  const counter = join(dir.path, `count-${++places}`)
  const acts = join(dir.path, `acts-${places}`)
  await writeFile(counter, '')
  await writeFile(acts, '')
  const counted = text.replace(
    'own() {\n',
    () => `hit() {
  [ "$1" = "$AROUND" ] || return 0
  printf . >> "$COUNTER"
  if [ "$(wc -c < "$COUNTER")" = "$KILL_AT" ]; then kill -s KILL -- "-$$"; sleep 9; fi
}
wrote() { printf '%s ' "$@" | tr '\\n' ' ' >> "$ACTS"; echo >> "$ACTS"; }
systemctl() {
  hit systemctl
  wrote systemctl "$@"
  command systemctl "$@"
  said=$?
  hit systemctl
  return "$said"
}
sync() {
  wrote sync "$@"
  command sync "$@"
}
own() {
  hit own
  wrote "$@"
  case " $WITHOUT " in *" $1 "*) return 127 ;; esac
  own_ "$@"
}
own_() {\n`,
  )
  assert.notEqual(counted, text)
  const child = spawn(program, [dash ?? '', counted, ...args], {
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      PATH: process.env.PATH,
      ...command.stages[0].env,
      COUNTER: counter,
      ACTS: acts,
      KILL_AT: String(at),
      AROUND: around,
      WITHOUT: without,
    },
  })
  const code = await new Promise<number | null>((resolve, reject) =>
    child.once('error', reject).once('exit', resolve),
  )
  return { code, acts: (await readFile(acts, 'utf8')).split('\n').filter(Boolean) }
}

/**
 * A power cut takes what was not told to go to disk: nothing may be, when the journal says that it has happened, when the journal or
 * the mark goes, when a server starts, and at the end.
 */
function expectDurable(acts: readonly string[], { journal, mark }: Pick<Ready, 'journal' | 'mark'>): void {
  const onlyInMemory = new Set<string>()
  const expectNothing = (act: string) => assert.deepEqual([...onlyInMemory], [], `${act}\n${acts.join('\n')}`)
  for (const act of acts) {
    const [program = '', ...args] = act.trim().split(' ')
    const paths = args.filter(arg => arg.startsWith('/'))
    const [to = ''] = paths.slice(-1)
    if (program === 'sync') {
      for (const path of onlyInMemory) {
        if (args.includes('-f') ? path.startsWith(to) : paths.includes(path)) onlyInMemory.delete(path)
      }
    } else if (program === 'tee') {
      if (to === journal) expectNothing(act)
      onlyInMemory.add(to)
    } else if (['mv', 'perl', 'python3'].includes(program)) {
      for (const path of paths) assert.ok(path !== `${journal}.new` || !onlyInMemory.has(path), act)
      onlyInMemory.add(dirname(to))
    } else if (program === 'cp') {
      onlyInMemory.add(to)
    } else if (program === 'rm') {
      if (to === journal || to.endsWith(`/${mark}`)) expectNothing(act)
      onlyInMemory.add(dirname(to))
    } else if (program === 'systemctl' && args[0] !== 'start') {
      onlyInMemory.add('/etc/systemd/system')
    } else if (args.includes('start')) {
      expectNothing(act)
    }
  }
  expectNothing('the end')
}

const carryOut = async (step: Step) => expectOk(engine, step, await runCommand(place(), step.run, {}))
const holds = async (step: Step) =>
  (await runCommand(place(), step.done ?? assert.fail('no check'))).exits[0] === 0

const inodeOf = async (path: string) => (await stat(path).catch(() => undefined))?.ino
/** The name leads to one of the two, or, where a machine cannot exchange names, for a moment to none; both are whole. */
async function expectWhole(r: Ready, atOnce: boolean): Promise<'old' | 'new' | 'none'> {
  const [data, copy, kept] = [await inodeOf(live), await inodeOf(r.copy), await inodeOf(r.kept)]
  assert.deepEqual(
    [data, copy, kept].filter(one => one !== undefined).sort(),
    [r.old, r.inode].sort(),
    `${data} ${copy} ${kept}`,
  )
  for (const path of [live, r.copy, r.kept]) {
    if (existsSync(path)) assert.ok(existsSync(join(path, 'global/pg_control')), path)
  }
  if (data === undefined) assert.ok(!atOnce, 'the name leads nowhere')
  return data === undefined ? 'none' : data === r.old ? 'old' : 'new'
}
async function expectOld(r: Ready, running = true) {
  assert.equal(await inodeOf(live), r.old)
  if (running) assert.equal(await word(), 'later')
  else assert.ok(!existsSync(join(live, 'postmaster.pid')))
  assert.deepEqual([existsSync(r.copy), existsSync(r.kept), existsSync(r.journal)], [true, false, false])
  assert.ok(existsSync(join(r.copy, r.mark)))
  assert.ok(await holds(r.swap.rollBack))
}
async function expectNew(r: Ready) {
  assert.equal(await inodeOf(live), r.inode)
  assert.equal(await word(), 'backed up')
  assert.deepEqual([existsSync(r.copy), await inodeOf(r.kept), existsSync(r.journal)], [false, r.old, false])
  assert.ok(!existsSync(join(live, r.mark)))
  assert.ok(await holds(r.swap.open))
}
/** By hand: everything as it was before the swap. */
async function reset(r: Ready) {
  await stop()
  await rename(live, r.copy)
  await rename(r.kept, live)
  await as('touch', join(r.copy, r.mark))
  await rm(r.journal, { force: true })
  await start()
}

describe('a swap', () => {
  test('the copy in its place, on a timeline of its own, with the configuration that was there; the old one kept, then gone', async () => {
    const r = await ready()
    assert.match(r.plan.destroys.join('\n'), /its server is stopped.*pg_ctl start/)
    await carryOut(r.swap.exchange)
    await assert.rejects(word())
    assert.deepEqual(await expectWhole(r, true), 'new')
    // Pages were read before; here the server waits.
    assert.ok(!(await prove(r.target, 'swapped')).includes('proof.amcheck'))
    await carryOut(r.swap.open)
    await expectNew(r)
    assert.equal(await sql('SHOW archive_mode'), 'on')
    assert.equal(await sql('SHOW holdfast.ours'), 'of the present one')
    assert.equal(await sql('SELECT timeline_id FROM pg_control_checkpoint()'), '2')
    const identity = (await runCommand(place(), r.swap.kept.identify)).stdout.trim()
    assert.match(identity, /^\d+:\d+$/)
    const drop = (kept: { name: string; identity: string }) =>
      runCommand(place(), physical.dropKept(settingsOf(), 'live', kept))
    // Whoever is another one stays; so does one in which a server runs.
    assert.deepEqual((await drop({ name: r.kept, identity: '1:1' })).exits, [0])
    await as(
      join(bin, 'pg_ctl'),
      ...['start', '-s', '-w', '-D', r.kept, '-l', `${live}.log`],
      '-o',
      `-p ${await freePort()}`,
    )
    const busy = engine.explain(await drop({ name: r.kept, identity }), { title: 'x' })
    assert.equal(busy?.code, 'database.busy')
    await stop(r.kept)
    assert.ok(existsSync(join(r.kept, 'PG_VERSION')))
    // Run again, nothing happens.
    await carryOut(r.swap.open)
    await carryOut(r.swap.exchange)
    await expectNew(r)
    await reset(r)
    for (const undo of r.plan.undo) assert.deepEqual((await runCommand(place(), undo)).exits, [0])
    assert.deepEqual((await readdir(ground)).sort(), ['bin', 'live', 'live.log'])
    assert.equal(await word(), 'later')
  })

  test('dropped when its time has come, and not what has its name meanwhile', async () => {
    const r = await ready()
    await carryOut(r.swap.exchange)
    await carryOut(r.swap.open)
    const identity = (await runCommand(place(), r.swap.kept.identify)).stdout.trim()
    await stop()
    const aside = join(ground, 'aside')
    await run('cp', ['-a', r.kept, aside])
    const drop = physical.dropKept(settingsOf(), 'live', { name: r.kept, identity })
    assert.deepEqual((await runCommand(place(), drop)).exits, [0])
    assert.ok(!existsSync(r.kept))
    await rename(live, `${live}.gone`)
    await rename(aside, live)
    await rm(`${live}.gone`, { recursive: true })
    await start()
    await as('mkdir', r.kept)
    assert.deepEqual((await runCommand(place(), drop)).exits, [0])
    assert.ok(existsSync(r.kept))
    await rm(r.kept, { recursive: true })
  })

  test('a server that does not come up: the old one is back and runs', async () => {
    const r = await ready()
    await carryOut(r.swap.exchange)
    // What is in the old one's configuration the new one gets.
    const conf = await readFile(join(r.kept, 'postgresql.conf'))
    await appendFile(join(r.kept, 'postgresql.conf'), 'shared_buffers = lots\n')
    await assert.rejects(carryOut(r.swap.open), (error: unknown) => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'restore.not-started')
      assert.match(error.message, /shared_buffers/)
      return true
    })
    assert.ok(!(await holds(r.swap.open)))
    await writeFile(join(r.kept, 'postgresql.conf'), conf)
    await carryOut(r.swap.rollBack)
    await expectOld(r)
    for (const undo of r.plan.undo) await runCommand(place(), undo)
    assert.ok(!existsSync(r.copy))
  })

  test('one that was stopped is started with the copy in it, and left stopped where that is taken back', async () => {
    await stop()
    const r = await ready()
    await carryOut(r.swap.exchange)
    await carryOut(r.swap.rollBack)
    assert.equal(await inodeOf(live), r.old)
    assert.ok(!existsSync(join(live, 'postmaster.pid')))
    await carryOut(r.swap.exchange)
    await carryOut(r.swap.open)
    await expectNew(r)
    await reset(r)
  })

  test('another directory under the name is not touched', async () => {
    const r = await ready()
    await stop()
    await rename(live, `${live}.mine`)
    await as('cp', '-a', `${live}.mine`, live)
    await assert.rejects(
      carryOut(r.swap.exchange),
      (error: unknown) => error instanceof HoldfastError && error.code === 'restore.target-changed',
    )
    const [same] = await ask(place(), physical.targetChecks(settingsOf(), r.target, backup.manifest))
    assert.equal(same?.code, 'restore.target-changed')
    assert.ok(!existsSync(r.journal))
    await rm(live, { recursive: true })
    await rename(`${live}.mine`, live)
    await start()
  })
})

describe('kill -9 before every act', () => {
  let r: Ready
  before(async () => {
    r = await ready()
  })
  /** Kills before the first act, the second … until a run ends by itself; `then` sees what each has left. */
  const untilItEnds = async (
    step: Step,
    without: string,
    between: () => Promise<void>,
    then: (at: number) => Promise<void>,
    from = (at: number) => at,
  ): Promise<number> => {
    for (let at = 1; ; at = from(at + 1)) {
      await between()
      const { code, acts } = await runKilled(step.run, at, { without })
      if (code !== null) {
        assert.equal(code, 0)
        expectDurable(acts, r)
        return at
      }
      await then(at)
    }
  }
  for (const [how, without, running] of [
    ['names are exchanged at once, the server ran', '', true],
    ['two renames, the server was stopped', 'perl python3', false],
  ] as const) {
    test(`of the exchange: ${how}`, async () => {
      if (!running) await stop()
      const seen = new Set<string>()
      const count = await untilItEnds(
        r.swap.exchange,
        without,
        async () => {},
        async at => {
          seen.add(await expectWhole(r, without === ''))
          if ((at % 2 === 0) === running) {
            await carryOut(r.swap.exchange)
            assert.equal(await expectWhole(r, true), 'new')
            assert.ok(await holds(r.swap.exchange))
          }
          await carryOut(r.swap.rollBack)
          await expectOld(r, running)
        },
      )
      assert.ok(count > 12, String(count))
      assert.equal(await expectWhole(r, true), 'new')
      await carryOut(r.swap.rollBack)
      await expectOld(r, running)
      assert.deepEqual([...seen].sort(), without === '' ? ['new', 'old'] : ['new', 'none', 'old'])
    })

    test(`of the way back: ${how}`, async () => {
      const count = await untilItEnds(
        r.swap.rollBack,
        without,
        async () => {
          await carryOut(r.swap.exchange)
        },
        async () => {
          await expectWhole(r, without === '')
          await carryOut(r.swap.rollBack)
          await expectOld(r, running)
        },
      )
      assert.ok(count > 4, String(count))
      await expectOld(r, running)
      if (!running) await start()
    })
  }

  test('of the start: it goes on, or the old one comes back; never after clients were let in', async () => {
    let handedOver = 0
    const count = await untilItEnds(
      r.swap.open,
      '',
      async () => {
        await carryOut(r.swap.exchange)
      },
      async at => {
        assert.equal(await expectWhole(r, true), 'new')
        const isReady = await word().then(
          () => true,
          () => false,
        )
        const isOpen = await holds(r.swap.open)
        assert.equal(isOpen, isReady, 'whoever was let in stays')
        if (isOpen) handedOver += 1
        if (isOpen || at % 2 === 0) {
          await carryOut(r.swap.open)
          await expectNew(r)
          await reset(r)
        } else {
          await carryOut(r.swap.rollBack)
          await expectOld(r)
        }
      },
      // Of four configuration files, each of which takes three acts, one is enough.
      at => (at > 4 && at < 13 ? 13 : at),
    )
    assert.ok(count > 12 && handedOver > 0, `${count} ${handedOver}`)
    await expectNew(r)
    await reset(r)
  })
})

describe('who starts and stops it', () => {
  test('systemd, as recorded: masked before it is stopped, unmasked only with the new one in its place', async () => {
    const systemctl = await recordedSystemctl(join(dir.path, 'systemctl'), {
      unit: 'postgresql@15-main.service',
      directory: live,
      pgCtl: [...asPostgres, join(bin, 'pg_ctl')],
      log: `${live}.log`,
      port,
    })
    const path = process.env.PATH
    process.env.PATH = `${systemctl.path}:${path}`
    try {
      const r = await ready('?supervisor=systemd:postgresql@15-main')
      assert.match(r.plan.destroys.join('\n'), /systemctl start postgresql@15-main\.service/)
      await carryOut(r.swap.exchange)
      assert.ok(await systemctl.isMasked())
      await assert.rejects(run('systemctl', ['start', '--', 'postgresql@15-main.service']), /is masked/)
      await carryOut(r.swap.open)
      await expectNew(r)
      assert.deepEqual(await systemctl.changes(), ['mask', 'start refused', 'unmask', 'start'])
      // Taken back, it is the unit again that runs the old one.
      await reset(r)
      await carryOut(r.swap.exchange)
      await carryOut(r.swap.rollBack)
      await expectOld(r)
      assert.deepEqual((await systemctl.changes()).slice(4), ['mask', 'mask', 'unmask', 'start'])
      for (const [step, last] of [
        [r.swap.exchange, r.swap.rollBack],
        [r.swap.exchange, r.swap.open],
      ] as const) {
        for (const each of [step, last]) {
          const { code, acts } = await runKilled(each.run, 0)
          assert.equal(code, 0)
          assert.ok(acts.some(act => act.startsWith('systemctl ')))
          expectDurable(acts, r)
        }
      }
      await reset(r)
      await killedAround(systemctl, r)
      await systemctl.set({ LoadState: 'masked' })
      await assert.rejects(existing('?supervisor=systemd:postgresql@15-main'), refused(/is "masked"/))
      await systemctl.set({ FragmentPath: '/etc/systemd/system/postgresql@15-main.service' })
      await assert.rejects(existing('?supervisor=systemd:postgresql@15-main'), refused(/cannot be masked/))
      await systemctl.set({ MainPID: '1' })
      await assert.rejects(existing('?supervisor=systemd:postgresql@15-main'), refused(/that of .* is 1/))
    } finally {
      process.env.PATH = path
    }
  })

  /** Wherever it dies around a word to the supervisor, it is held until its next run, and let go by that. */
  async function killedAround(systemctl: Awaited<ReturnType<typeof recordedSystemctl>>, r: Ready) {
    const killed = async (step: Step, at: number) =>
      (await runKilled(step.run, at, { around: 'systemctl' })).code
    // Before and after `mask`.
    for (const at of [1, 2]) {
      assert.equal(await killed(r.swap.exchange, at), null)
      assert.equal(await systemctl.isMasked(), at === 2)
      assert.equal(await expectWhole(r, true), 'old')
      await carryOut(r.swap.rollBack)
      assert.ok(!(await systemctl.isMasked()))
      await expectOld(r)
    }
    // Before and after `unmask`, and after `start`: it goes on, or back.
    for (const at of [1, 2, 4]) {
      await carryOut(r.swap.exchange)
      assert.equal(await killed(r.swap.open, at), null)
      assert.equal(await systemctl.isMasked(), at === 1)
      assert.equal(await expectWhole(r, true), 'new')
      if (at % 2 === 0) {
        await carryOut(r.swap.open)
        await expectNew(r)
        await reset(r)
      } else {
        await carryOut(r.swap.rollBack)
        await expectOld(r)
      }
      assert.ok(!(await systemctl.isMasked()))
    }
    // Of the way back: after `mask` and `unmask`, and before `start`.
    for (const at of [2, 4, 5]) {
      await carryOut(r.swap.exchange)
      assert.equal(await killed(r.swap.rollBack, at), null)
      assert.equal(await systemctl.isMasked(), at <= 3)
      assert.equal(await expectWhole(r, true), at <= 2 ? 'new' : 'old')
      await carryOut(r.swap.rollBack)
      assert.ok(!(await systemctl.isMasked()))
      await expectOld(r)
    }
  }

  test('a program that is told stop and start', async () => {
    const program = join(ground, 'supervise')
    const pgCtl = [...asPostgres, join(bin, 'pg_ctl')].join(' ')
    await writeFile(
      program,
      `#!/bin/sh
cd /
echo "$1" >> ${dir.path}/told
case $1 in
stop) [ ! -e "$2/postmaster.pid" ] || ${pgCtl} stop -s -w -m fast -D "$2" ;;
start) ${pgCtl} start -s -w -D "$2" -l ${live}.log -o '-p ${port}' ;;
esac
`,
      { mode: 0o755 },
    )
    const r = await ready(`?supervisor=${program}`)
    await carryOut(r.swap.exchange)
    await carryOut(r.swap.open)
    await expectNew(r)
    assert.equal(await readFile(join(dir.path, 'told'), 'utf8'), 'stop\nstop\nstart\n')
    await reset(r)
    await rm(program)
  })

  test('nobody who says so: refused where somebody else may start it', async () => {
    await stop()
    const server = await startPostgres({ dataDir: live, port, logFile: `${live}.log` })
    await assert.rejects(existing(''), refused(new RegExp(`started by process ${process.pid} `)))
    await server.stop()
    await start()
  })
})

test('a standby with its log and its tablespaces elsewhere, named: a primary of its own, which archives nothing', async () => {
  const [log, warm] = [join(ground, 'log'), join(ground, 'warm')]
  await as('mkdir', '-m', '0700', warm)
  await sql(`CREATE TABLESPACE warm LOCATION '${warm}'`)
  await sql('CREATE TABLE kept_warm TABLESPACE warm AS SELECT 1 AS one')
  await stop()
  await as('mv', join(live, 'pg_wal'), log)
  await as('ln', '-s', log, join(live, 'pg_wal'))
  await as('touch', join(live, 'standby.signal'))
  await start()
  const all = ['standby', 'wal', 'tablespaces'] as const
  for (const [left, words] of [
    ['standby', /is a standby/],
    ['wal', /\(\.\/pg_wal \S*log\)/],
    ['tablespaces', /\(\.\/pg_tblspc\/\d+ \S*warm\)/],
  ] as const) {
    const allow = all.filter(one => one !== left)
    await assert.rejects(existing(undefined, allow), refused(words))
  }
  const r = await ready(undefined, all)
  const destroyed = r.plan.destroys.join('\n')
  assert.match(destroyed, /is a standby\. The copy follows nobody/)
  assert.match(destroyed, /pg_wal → \S*log; pg_tblspc\/\d+ → \S*warm/)
  await carryOut(r.swap.exchange)
  await carryOut(r.swap.rollBack)
  await expectOld(r)
  assert.equal(await sql('SELECT pg_is_in_recovery()'), 't')
  await carryOut(r.swap.exchange)
  await carryOut(r.swap.open)
  await expectNew(r)
  assert.equal(await sql('SELECT pg_is_in_recovery()'), 'f')
  assert.equal(await sql('SHOW archive_mode'), 'off')
  assert.equal(await sql('SHOW holdfast.ours'), 'of the present one')
  await reset(r)
  assert.equal(await sql('SELECT one FROM kept_warm'), '1')
  // Promoted since it was planned, it is another kind of server.
  await sql('SELECT pg_promote()')
  const [same] = await ask(place(), physical.targetChecks(settingsOf(), r.target, backup.manifest))
  assert.equal(same?.code, 'restore.target-changed', JSON.stringify(same))
  await assert.rejects(
    carryOut(r.swap.exchange),
    (error: unknown) => error instanceof HoldfastError && error.code === 'restore.target-changed',
  )
  await sql('DROP TABLE kept_warm')
  await sql('DROP TABLESPACE warm')
  await stop()
  await as('rm', join(live, 'pg_wal'))
  await as('mv', log, join(live, 'pg_wal'))
  await start()
})

const refused = (words: RegExp) => (error: unknown) => {
  assert.ok(error instanceof HoldfastError, String(error))
  assert.equal(error.code, 'restore.swap-refused')
  assert.match(error.message, words)
  return true
}

describe('what is refused', () => {
  test('standbys, links, mounts, other servers, what is no data directory', async () => {
    const at = (directory: string, query?: string) =>
      ask(place(), physical.existing(settingsOf(query), 'live', directory))
    assert.equal(await at(join(ground, 'nobody')), undefined)
    const link = join(ground, 'link')
    await symlink(live, link)
    await assert.rejects(at(link), refused(/is a symbolic link/))
    await rm(link)
    const other = join(ground, 'other')
    await mkdir(other)
    assert.equal(await at(other), undefined)
    await writeFile(join(other, 'mine'), 'mine')
    await assert.rejects(at(other), refused(/no data directory/))
    await rm(other, { recursive: true })
    for (const [name, words] of [
      ['standby.signal', /is a standby/],
      ['recovery.signal', /is being recovered/],
    ] as const) {
      await writeFile(join(live, name), '')
      await assert.rejects(at(live), refused(words))
      await rm(join(live, name))
    }
    await symlink('/srv/warm', join(live, 'pg_tblspc/16999'))
    await assert.rejects(at(live), refused(/pg_tblspc\/16999 \/srv\/warm/))
    await rm(join(live, 'pg_tblspc/16999'))
    const elsewhere = engine.parseUrl(`postgres://postgres@127.0.0.1:${port + 1}/postgres`).settings
    await assert.rejects(
      ask(place(), physical.existing(elsewhere, 'live', live)),
      refused(new RegExp(`on port ${port}`)),
    )
    const replaces = (await at(live)) ?? assert.fail()
    const target = {
      connection: 'live',
      database: live,
      replaces,
      token: newToken(),
      jobs: 1,
      noOwner: false,
    }
    const targetFacts = await ask(place(), engine.probeTarget('live', settingsOf(), 'physical'))
    const planned = (identity: string, version: string) =>
      physical.planRestore(
        settingsOf(),
        target,
        { ...backup.manifest, server: { ...backup.manifest.server, version } },
        { ...targetFacts, identity },
      )
    const { version } = backup.manifest.server
    assert.throws(() => planned('postgresql:1/127.0.0.1:5432', version), refused(/the connection is of 1/))
    assert.throws(() => settingsOf('?supervisor=systemd:-x'), /supervisor/)
    assert.throws(() => settingsOf('?supervisor=init'), /supervisor/)
  })

  test('a mount point, and one that holds others', async () => {
    // Not everybody may mount: what is seen of one that every machine has is put into what is seen of a data directory.
    const seen = async (directory: string) => {
      const { look = assert.fail() } = physical.existing(settingsOf(), 'live', directory).commands
      return await runCommand(place(), look)
    }
    const own = await seen(live)
    const read = (from: RegExp, line: string) => {
      assert.match(own.stdout, from)
      const look = { ...own, stdout: own.stdout.replace(from, line) }
      return () => physical.existing(settingsOf(), 'live', live).read({ look })
    }
    const [mounted = assert.fail()] = /^mount yes$/m.exec((await seen('/proc')).stdout) ?? []
    assert.throws(read(/^mount no$/m, mounted), refused(/is a mount point/))
    const [holds = assert.fail()] = /^mounted \.\/proc$/m.exec((await seen('/')).stdout) ?? []
    assert.throws(read(/^mount no$/m, `$&\n${holds}`), refused(/has other file systems in it \(\.\/proc\)/))
  })
})
