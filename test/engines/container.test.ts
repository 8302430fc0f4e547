/** Copies that are started by the programs of an image, against a recorded container engine: there is none where Holdfast is made. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { Examination, RestorePlan, RestoreTarget, ServerFacts } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import { byPrograms } from '../../engines/postgresql/physical/container.ts'
import { script } from '../../engines/postgresql/physical/programs.ts'
import { HoldfastError } from '../../model/errors.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { imageId, type RecordedContainers, recordedContainers } from '../servers/recorded-containers.ts'
import { ask, backUp, expectOk, newToken, type PlainBackup, runCommand, runSteps } from '../support/run.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { eventually } from '../system/stack.ts'

const run = promisify(execFile)
const engine = engineOf('postgresql')
const physical = engine.methods.physical ?? assert.fail()
const bin = '/usr/lib/postgresql/15/bin'
const image = { engine: 'docker', image: 'postgres:15' } as const

describe('a copy that the programs of an image start', () => {
  let dir: Scratch
  let server: TestPostgres
  let backup: PlainBackup
  let containers: RecordedContainers
  let ground = ''
  let settings: unknown
  const path = process.env.PATH

  before(async () => {
    dir = await scratch()
    ground = await mkdtemp(join(tmpdir(), 'holdfast-container-'))
    if (process.getuid?.() === 0) await run('chown', ['postgres:', ground])
    server = await startPostgres({ version: 15 })
    await server.sql('CREATE TABLE words AS SELECT generate_series(1, 100) i')
    containers = await recordedContainers(join(dir.path, 'docker'), 'docker', bin)
    process.env.PATH = `${containers.path}:${path}`
    settings = engine.parseUrl(server.url()).settings
    backup = await backUp(engine, physical, settings, place(), {})
  })
  after(async () => {
    process.env.PATH = path
    await server?.stop()
    await dir?.[Symbol.asyncDispose]()
    if (ground !== '') await rm(ground, { recursive: true, force: true })
  })

  let places = 0
  const place = () => ({ staging: join(dir.path, `staging-${++places}`), secrets: {} })
  interface Copy {
    target: RestoreTarget
    facts: ServerFacts
    plan: RestorePlan
  }
  const planned = async (name: string): Promise<Copy> => {
    const target = {
      connection: 'target',
      database: join(ground, name),
      token: newToken(),
      jobs: 1,
      noOwner: false,
    }
    const facts = await ask(place(), engine.probeTarget('target', settings, 'physical', image))
    return { target, facts, plan: physical.planRestore(settings, target, backup.manifest, facts) }
  }
  const proven = async ({ target, facts }: Copy) =>
    await ask(place(), physical.proofs(settings, target, backup.manifest, 'temporary', facts))
  const undone = async ({ plan }: Copy) => {
    for (const command of plan.undo) expectOk(engine, { title: 'undo' }, await runCommand(place(), command))
  }
  const sleeps: Examination = {
    thorough: false,
    canary: false,
    queries: [{ name: 'long', sql: 'SELECT pg_sleep(600)', expect: '' }],
  }
  /** Asks what takes long; answers once its container is there, and the server in it takes connections. */
  const asking = async ({ target, facts }: Copy): Promise<ChildProcess> => {
    const probe = physical.examine(settings, target, backup.manifest, sleeps, facts)
    let child: ChildProcess | undefined
    const ended = runCommand(place(), probe.commands.examine ?? assert.fail(), {
      onSpawn: children => (child = children[0]),
    })
    ended.catch(() => undefined)
    const temporary = `${target.database}.holdfast-${target.token.toLowerCase()}`
    // What it began with is gone by then: a checkpoint has removed that WAL.
    await eventually('its recovery is over', async () => {
      const { stdout } = await run(`${bin}/pg_controldata`, ['-D', temporary])
      const over = (await readdir(temporary)).includes('backup_label.old')
      return over && /^Database cluster state: +in production$/m.test(stdout) ? true : undefined
    })
    return child ?? assert.fail()
  }

  test('is verified, proven and asked in containers that see its directory and no network', async () => {
    const copy = await planned('copy')
    await runSteps(engine, place(), backup, copy.plan.steps)
    const checks = await proven(copy)
    assert.deepEqual(
      checks.filter(({ answer }) => answer === 'fail'),
      [],
    )
    const examination = { thorough: true, canary: false, queries: [] }
    const { rows } = await ask(
      place(),
      physical.examine(settings, copy.target, backup.manifest, examination, copy.facts),
    )
    assert.deepEqual(rows.find(({ table }) => table === 'public.words')?.rows, 100)
    const calls = await containers.calls()
    // Who is there; verify; prove; examine.
    assert.equal(calls.length, 4)
    const temporary = `${copy.target.database}.holdfast-${copy.target.token.toLowerCase()}`
    for (const call of calls) {
      const after = (option: string) => call.flatMap((word, at) => (call[at - 1] === option ? [word] : []))
      assert.deepEqual(
        [after('--network'), after('--pull'), after('--cap-drop')],
        [['none'], ['never'], ['ALL']],
      )
      assert.deepEqual(after('--security-opt'), ['no-new-privileges', 'label=disable'])
      assert.ok(call.includes('--read-only') && call.includes('--rm'))
      assert.equal(call.at(-1), imageId)
      if (call === calls[0]) continue
      assert.deepEqual(after('--mount'), [`type=bind,source=${temporary},target=${temporary}`])
      assert.deepEqual(after('--label'), [`holdfast.mark=holdfast-restore-${copy.target.token}`])
      assert.match(after('--user')[0] ?? '', /^[1-9]\d*:\d+$/)
    }
    assert.deepEqual(await containers.there(), [])
    await undone(copy)
    assert.deepEqual(await readdir(ground), [])
  })

  test('killed: the container that goes on is removed by who comes next, and no other', async () => {
    const [copy, other] = [await planned('killed'), await planned('other')]
    for (const one of [copy, other]) await runSteps(engine, place(), backup, one.plan.steps)
    await asking(other)
    const child = await asking(copy)
    assert.equal((await containers.there()).length, 2)
    // With the client, as a host ends a process group.
    const clients = (await run('pgrep', ['-P', String(child.pid)])).stdout.trim().split('\n')
    for (const pid of [String(child.pid), ...clients]) process.kill(Number(pid), 'SIGKILL')
    assert.equal((await containers.there()).length, 2, 'they are not the children of who asked')
    assert.deepEqual(
      (await proven(copy)).filter(({ answer }) => answer === 'fail'),
      [],
    )
    assert.deepEqual(await containers.there(), [`holdfast.mark=holdfast-restore-${other.target.token}`])
    await undone(other)
    assert.deepEqual(await containers.there(), [])
    await undone(copy)
    assert.deepEqual(await readdir(ground), [])
  })

  test('an image that is not there is not fetched; without its engine nothing is begun', async () => {
    const looked = async (asked: { engine: 'docker' | 'podman'; image: string }) =>
      await ask(place(), engine.probeTarget('target', settings, 'physical', asked))
    await assert.rejects(looked({ engine: 'docker', image: 'postgres:9' }), (error: unknown) => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'tool.failed')
      assert.match(`${error.message} ${error.hint}`, /No such image: postgres:9.*docker pull postgres:9/s)
      return true
    })
    await assert.rejects(
      looked({ engine: 'podman', image: 'postgres:15' }),
      (error: unknown) => error instanceof HoldfastError && error.code === 'host.tool-missing',
    )
  })

  test('an ordinary user keeps its id; a name that cannot be mounted is refused', async () => {
    const container = { engine: 'podman', image: imageId, user: '1000:1000', keepsIds: true } as const
    const programs = { actAs: null, servers: [], container }
    const { argv } = byPrograms(programs, 'holdfast-restore-x', ['/srv/copy'], script('true')).stages[0]
    assert.equal(argv[argv.indexOf('--userns') + 1], 'keep-id')
    await assert.rejects(planned('a,b'), (error: unknown) => {
      assert.ok(error instanceof HoldfastError)
      assert.equal(error.code, 'request.invalid')
      return true
    })
  })
})
