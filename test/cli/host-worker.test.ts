/** A host with a worker of its own, typed as people do. What the worker does there: test/system/host-worker.test.ts. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { HostView } from '../../model/views.ts'
import { startTestApi, type TestApi } from '../api/support.ts'
import { startTemporal, type TestTemporal } from '../servers/temporal.ts'
import { eventually, holdfast, start } from './run.ts'

describe('hosts with workers of their own', () => {
  let folder = ''
  let api: TestApi
  let temporal: TestTemporal
  let token = ''
  const cli = (args: string[], extra: Record<string, string> = {}) =>
    holdfast(args, {
      cwd: folder,
      env: { HOLDFAST_URL: api.api.url, HOLDFAST_TOKEN: api.token, ...extra },
    })
  const ok = async (args: string[]) => {
    const ended = await cli(args)
    assert.equal(ended.code, 0, `${args.join(' ')}: ${ended.stderr}`)
    return ended
  }
  const workerEnv = () => ({
    HOLDFAST_URL: api.api.url,
    HOLDFAST_HOME: join(folder, 'there'),
    HOLDFAST_TEMPORAL_ADDRESS: temporal.address,
    HOLDFAST_WORKER_TOKEN_FILE: join(folder, 'host.token'),
  })

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-host-worker-'))
    temporal = await startTemporal()
    api = await startTestApi({ temporal: temporal.address })
  })
  after(async () => {
    await api?.stop()
    await temporal?.stop()
    await rm(folder, { recursive: true, force: true })
  })

  test('it is added; the token alone goes to standard output, and how to use it beside it', async () => {
    const { stdout, stderr } = await ok(['host', 'add', 'db1', '--worker'])
    assert.match(stdout, /^hf_host_[\w-]{43}\n$/)
    assert.match(stderr, /holdfast worker --host db1/)
    assert.match((await ok(['host', 'list'])).stdout, /db1 +worker: nobody there .*of \d{4}-/)
    for (const wrong of [
      ['host', 'add', 'db2'],
      ['host', 'add', 'db2', 'ssh://dba@db2', '--worker'],
    ]) {
      assert.notEqual((await cli(wrong)).code, 0)
    }
    token = stdout
    await writeFile(join(folder, 'host.token'), token, { mode: 0o600 })
  })

  test('one over SSH is changed in place; what is not named stays', async () => {
    await ok([
      'host',
      'add',
      'far',
      'ssh://dba@127.0.0.1:1',
      '--run-as',
      'postgres',
      '--temp-dir',
      '/srv/one',
    ])
    const password = join(folder, 'password')
    await writeFile(password, 'kanarienvogel-host\n', { mode: 0o600 })
    const { stdout, stderr } = await ok([
      ...['host', 'change', 'far', '--to', 'ssh://dba@127.0.0.1:2', '--no-run-as', '--secret-file', password],
    ])
    assert.match(stdout, /^far: ssh:\/\/dba@127\.0\.0\.1:2\n/)
    assert.match(stderr, /It does not answer/)
    const hosts = JSON.parse((await ok(['host', 'list', '--json'])).stdout) as HostView[]
    const { runAs, tempDir, secrets } = hosts.find(({ name }) => name === 'far') as HostView
    assert.deepEqual([runAs, tempDir, secrets], [null, '/srv/one', ['password']])
    await ok(['host', 'remove', 'far'])
  })

  test('what nobody answers for is refused with the command that helps', async () => {
    const { code, stderr } = await cli([
      'connection',
      'add',
      'shop',
      join(folder, 'shop.db'),
      '--host',
      'db1',
    ])
    assert.equal(code, 8)
    assert.match(stderr, /host\.no-worker/)
    assert.match(stderr, /holdfast worker --host db1/)
  })

  test('the worker starts with the token of its host only, and `list` says that it answers', async () => {
    await ok(['host', 'add', 'db2', '--worker'])
    const wrong = await holdfast(['worker', '--host', 'db2'], { cwd: folder, env: workerEnv() })
    assert.notEqual(wrong.code, 0)
    assert.match(wrong.stderr, /request\.forbidden/)
    const all = { ...workerEnv(), HOLDFAST_WORKER_TOKEN_FILE: api.settings.workerTokenFile }
    const general = await holdfast(['worker', '--host', 'db1'], { cwd: folder, env: all })
    assert.match(general.stderr, /holdfast host token HOST/)

    const worker = start(['worker', '--host', 'db1'], { cwd: folder, env: workerEnv() })
    try {
      await eventually('it answers', async () => {
        const { stdout } = await ok(['host', 'list', '--json'])
        const [db1] = JSON.parse(stdout) as HostView[]
        return db1?.worker?.polling ? true : undefined
      })
      assert.match((await ok(['host', 'list'])).stdout, /db1 +worker: answers .*last used \d{4}-/)
      await eventually('it is healthy', async () => {
        const health = await holdfast(['worker', '--health'], { cwd: folder, env: workerEnv() })
        return health.code === 0 ? true : undefined
      })
    } finally {
      worker.child.kill('SIGTERM')
      await worker.ended
    }
  })

  test('a new token ends the old one; revoking ends it without another', async () => {
    const next = await ok(['host', 'token', 'db1'])
    assert.notEqual(next.stdout, token)
    const old = await holdfast(['worker', '--host', 'db1'], { cwd: folder, env: workerEnv() })
    assert.match(old.stderr, /request\.unauthenticated/)
    assert.match((await ok(['host', 'token', 'db1', '--revoke'])).stdout, /opens nothing any more/)
    assert.match((await ok(['host', 'list'])).stdout, /db1 .*no token/)
  })
})
