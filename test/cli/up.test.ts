import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type Runtime, readLastRuntime, readRuntime } from '../../cli/context.ts'
import { freePort } from '../../cli/free-port.ts'
import { markOf, processLives } from '../../cli/up/processes.ts'
import { type Ended, eventually, holdfast, start } from './run.ts'

describe('holdfast up', () => {
  let folder = ''
  let home = ''
  let env: Record<string, string> = {}
  let running: ReturnType<typeof start> | undefined

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-up-'))
    home = join(folder, 'home')
    env = { HOLDFAST_HOME: home, HOLDFAST_API_LISTEN: '127.0.0.1:0' }
  })
  afterEach(async () => {
    const runtime = readLastRuntime(home)
    running?.child.kill('SIGKILL')
    await running?.ended
    running = undefined
    if (runtime !== undefined) await allGone(runtime)
    await rm(folder, { recursive: true, force: true })
  })

  const allGone = (runtime: Runtime) =>
    eventually('no process is left', () => (runtime.children.some(processLives) ? undefined : true))

  /** The runtime file names all three children, and the announcement was printed. */
  async function up(): Promise<{ runtime: Runtime; announced: Record<string, unknown> }> {
    const started = start(['up', '--json'], { env })
    running = started
    let text = ''
    started.child.stdout?.on('data', chunk => {
      text += chunk
    })
    let ended: Ended | undefined
    void started.ended.then(result => {
      ended = result
    })
    const announced = await eventually('up is up', () => {
      if (ended !== undefined) throw new Error(`up ended with ${ended.code}: ${ended.stderr}`)
      return text.includes('\n') ? JSON.parse(text) : undefined
    })
    const runtime = await eventually('three children run', () => {
      const found = readRuntime(home)
      return found?.children.length === 3 ? found : undefined
    })
    return { runtime, announced }
  }

  const childOf = (runtime: Runtime, name: string) => {
    const child = runtime.children.find(one => one.name === name)
    assert.ok(child, `${name} is not among the children`)
    return child
  }

  test('from an empty home: private, keyed, and gone without a trace after kill -9', async () => {
    const { runtime, announced } = await up()
    assert.equal(announced.api, runtime.api)
    assert.equal((await stat(home)).mode & 0o777, 0o700)
    for (const file of ['secret.key', 'api.token', 'worker.token', 'keys/default.json']) {
      assert.equal((await stat(join(home, file))).mode & 0o777, 0o600, file)
    }
    // The CLI finds the API through the home alone.
    const find = { env: { HOLDFAST_HOME: home } }
    const keys = await holdfast(['keys', 'list', '--json'], find)
    assert.equal(keys.code, 0, keys.stderr)
    assert.deepEqual(
      JSON.parse(keys.stdout).map((key: { name: string }) => key.name),
      ['default'],
    )
    const destinations = JSON.parse((await holdfast(['destination', 'list', '--json'], find)).stdout)
    assert.equal(destinations.length, 1)
    assert.equal(destinations[0].name, 'local')
    assert.equal(destinations[0].uri, `file://${join(home, 'backups')}`)

    const second = await holdfast(['up'], { env })
    assert.equal(second.code, 5)
    assert.match(
      second.stderr,
      new RegExp(`error request\\.in-use: .*process ${runtime.pid}, API at ${runtime.api}`),
    )

    running?.child.kill('SIGKILL')
    const ended = await running?.ended
    assert.equal(ended?.signal, 'SIGKILL')
    assert.match(ended?.stderr ?? '', /secret\.key/)
    assert.match(ended?.stderr ?? '', /Copy .*keys.default.* to a safe place/)
    await allGone(runtime)
    // What the killed run wrote does not lead the CLI astray.
    assert.equal(readRuntime(home), undefined)

    const secret = await readFile(join(home, 'secret.key'), 'utf8')
    const again = await up()
    assert.notEqual(again.runtime.pid, runtime.pid)
    assert.equal(await readFile(join(home, 'secret.key'), 'utf8'), secret)
  })

  test('a child that is killed is started again; Ctrl-C ends everything in order', async () => {
    const { runtime } = await up()
    for (const name of ['worker', 'api', 'temporal']) {
      const before = childOf(runtime, name)
      process.kill(before.pid, 'SIGKILL')
      await eventually(`${name} runs again`, () => {
        const now = readRuntime(home)?.children.find(child => child.name === name)
        return now !== undefined && now.pid !== before.pid && processLives(now) ? true : undefined
      })
    }
    await eventually('the API is ready again', async () => {
      const answer = await fetch(`${runtime.api}/readyz`).catch(() => undefined)
      return answer?.ok === true ? true : undefined
    })
    const last = readRuntime(home)
    assert.ok(last)
    assert.equal(last.api, runtime.api)
    assert.equal(last.temporalAddress, runtime.temporalAddress)
    running?.child.kill('SIGINT')
    const ended = await running?.ended
    assert.equal(ended?.code, 0, ended?.stderr)
    assert.ok(!last.children.some(processLives))
    assert.equal(readLastRuntime(home), undefined)
  })

  test('a taken port is said, and nothing is left running', async () => {
    const port = await freePort()
    // Accepts and never answers.
    const sockets = new Set<Socket>()
    const server = createServer(socket => sockets.add(socket))
    await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
    try {
      const ended = await holdfast(['up'], { env: { ...env, HOLDFAST_API_LISTEN: `127.0.0.1:${port}` } })
      assert.equal(ended.code, 5)
      assert.match(
        ended.stderr,
        new RegExp(`error request\\.in-use: Another program listens on 127\\.0\\.0\\.1:${port}`),
      )
    } finally {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    }
    assert.equal(readLastRuntime(home), undefined)
  })

  test('a runtime file that names somebody else does not stop a start', async () => {
    const { runtime } = await up()
    running?.child.kill('SIGINT')
    await running?.ended
    const { writeRuntime } = await import('../../cli/up/home.ts')
    // The pids were reused by this very process, which is not what was started then.
    const stale = { ...runtime, pid: process.pid, started: '1' }
    await writeRuntime(home, {
      ...stale,
      children: [{ name: 'temporal', ...markOf(process.pid), started: '1' }],
    })
    assert.equal(readRuntime(home), undefined)
    const again = await up()
    assert.ok(again.runtime.pid > 0)
  })
})
