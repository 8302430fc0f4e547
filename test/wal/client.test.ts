/** What PostgreSQL is told by `holdfast wal push` and `wal fetch`, with and without an agent, whoever is killed. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { eventually, holdfast, launcher, start } from '../cli/run.ts'
import { type Interceptor, startInterceptor } from '../servers/interceptor.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { scratch } from '../support/temporary.ts'
import { killed, type WalHost, walHost } from './host.ts'
import { done, ready, segmentOf } from './segments.ts'

const names = [3, 4, 5, 6, 7].map(number => `00000001000000000000000${number}`)
const [name = '', next = ''] = names

const recovered = (dataDir: string) => readFile(join(dataDir, 'pg_wal', 'RECOVERYXLOG'))
const absent = (path: string) =>
  stat(path).then(
    () => false,
    () => true,
  )
const drafts = async (dataDir: string) =>
  (await readdir(join(dataDir, 'pg_wal'))).filter(file => file.startsWith('.holdfast-wal-'))

describe('without an agent', () => {
  it('a file is archived and comes back', async () => {
    await using place = await scratch()
    const store = join(place.path, 'store')
    await mkdir(store)
    const host = await walHost(place.path, { uri: store })
    await writeFile(host.at(name), segmentOf(name))
    const pushed = await host.push(name)
    assert.equal(pushed.code, 0, pushed.stderr)
    assert.equal((await host.push(name)).code, 0, 'again')
    assert.equal((await host.fetch(name)).code, 0)
    assert.deepEqual(await recovered(host.dataDir), segmentOf(name))
    assert.deepEqual(await drafts(host.dataDir), [])
  })

  it('what cannot be archived is said with a code that PostgreSQL counts', async () => {
    await using place = await scratch()
    const store = join(place.path, 'store')
    await mkdir(store)
    const host = await walHost(place.path, { uri: store })
    await writeFile(host.at(name), segmentOf(name))
    assert.equal((await host.push(name)).code, 0)
    const refused = async (file: string, code: string) => {
      const { code: exit, stderr } = await host.push(file)
      assert.equal(exit, 1, stderr)
      assert.match(stderr, new RegExp(`^error ${code}: .+\nhint: .+`))
    }
    await refused(next, 'wal.unreadable')
    await writeFile(host.at(name), segmentOf(name, { seed: 'other' }))
    await refused(name, 'wal.different')
    await writeFile(host.at(next), segmentOf(next, { server: '7000000000000000001' }))
    await refused(next, 'wal.foreign')
    await writeFile(host.at(next), segmentOf(next).subarray(0, 5000))
    await refused(next, 'wal.unreadable')
    await writeFile(host.at('wal.tmp'), 'x')
    await refused('wal.tmp', 'wal.unreadable')
    assert.equal((await holdfast(['wal', 'push'])).code, 2)
    const nowhere = await holdfast(['wal', 'push', '--config', '/nowhere/wal.json', host.at(name)])
    assert.equal(nowhere.code, 1)
    assert.match(nowhere.stderr, /^error settings\.invalid: /)
  })

  it('"the log ends here" is said only where it is proven', async () => {
    await using place = await scratch()
    const store = join(place.path, 'store')
    await mkdir(store)
    const host = await walHost(place.path, { uri: store, begin: false })
    await writeFile(host.at(name), segmentOf(name))
    assert.equal((await host.fetch(name)).code, 255, 'no archive was begun here')
    assert.equal((await host.push(name)).code, 1)
    assert.equal((await holdfast(['wal', 'begin', '--config', host.config])).code, 0)
    assert.equal((await host.fetch(name)).code, 1)
    assert.equal((await host.push(name)).code, 0)
    assert.equal((await host.fetch(next)).code, 1)
    assert.equal((await host.fetch('00000002.history')).code, 1)
    await rename(store, `${store}-away`)
    assert.equal((await host.fetch(next)).code, 255, 'it is gone')
    await mkdir(store)
    assert.equal((await host.fetch(next)).code, 255, 'an empty place: something is not mounted')
    assert.equal((await host.push(name)).code, 1)
    assert.deepEqual(await readdir(store), [])
    await rm(store, { recursive: true })
    await rename(`${store}-away`, store)
    const [object = ''] = (await readdir(store, { recursive: true })).filter(file =>
      file.endsWith(`${name}.wal`),
    )
    const bytes = await readFile(join(store, object))
    await writeFile(join(store, object), bytes.subarray(0, bytes.length - 10))
    assert.equal((await host.fetch(name)).code, 255, 'it is damaged')
    assert.ok(await absent(join(host.dataDir, 'pg_wal', 'RECOVERYXLOG')))
    assert.equal((await holdfast(['wal', 'fetch', name])).code, 255, 'typed wrong')
    assert.equal((await holdfast(['wal', 'fetch', '--config', '/nowhere/x', name, '/nowhere/y'])).code, 255)
  })

  it('a hole is no end of the log; what pg_wal still has fills it', async () => {
    await using place = await scratch()
    const store = join(place.path, 'store')
    await mkdir(store)
    const host = await walHost(place.path, { uri: store })
    const [second = '', third = '', fourth = '', current = ''] = names.slice(1)
    for (const one of names) await writeFile(host.at(one), segmentOf(one))
    for (const one of [name, second, fourth]) assert.equal((await host.push(one)).code, 0)
    const missing = await host.fetch(third)
    assert.equal(missing.code, 255)
    assert.match(missing.stderr, /^error wal\.gap: /)
    // A standby has others to ask, and asks again.
    await writeFile(join(host.dataDir, 'standby.signal'), '')
    assert.equal((await host.fetch(third)).code, 1)
    await rm(join(host.dataDir, 'standby.signal'))
    for (const one of [second, third, fourth]) await done(host.at(one))
    const repair = ['wal', 'repair', '--json', '--config', host.config, '--pgdata', host.dataDir]
    const repaired = await holdfast(repair)
    assert.equal(repaired.code, 0, repaired.stderr)
    assert.deepEqual(JSON.parse(repaired.stdout), { pushed: [third], missing: [] })
    assert.equal((await host.fetch(third)).code, 0)
    assert.equal((await host.fetch(current)).code, 1, 'the one that is written ends the log')
    const [object = ''] = (await readdir(store, { recursive: true })).filter(file =>
      file.endsWith(`${second}.wal`),
    )
    await rm(join(store, object))
    await rm(host.at(second))
    const lost = await holdfast(repair)
    assert.equal(lost.code, 1)
    // What a standby received of the segment that its timeline was left in is not all of it.
    await writeFile(host.at(current), segmentOf(current))
    await done(host.at(current))
    await writeFile(host.at('00000002.history'), '1\t0/780000\tno recovery target specified\n')
    const left = await holdfast(repair)
    assert.deepEqual(JSON.parse(left.stdout).pushed, [])
    const [hole] = JSON.parse(lost.stdout).missing
    assert.deepEqual([hole.first, hole.last, hole.from, hole.to], [second, second, '0/400000', '0/500000'])
  })

  it('a timeline that began before its archive brings its history', async () => {
    await using place = await scratch()
    const store = join(place.path, 'store')
    await mkdir(store)
    const host = await walHost(place.path, { uri: store })
    const later = '000000020000000000000007'
    const history = '1\t0/6000000\tno recovery target specified\n'
    await writeFile(host.at('00000002.history'), history)
    await writeFile(host.at(later), segmentOf(later))
    assert.equal((await host.push(later)).code, 0)
    assert.equal((await host.fetch('00000002.history')).code, 0)
    assert.equal((await recovered(host.dataDir)).toString(), history)
  })

  it('a Holdfast that cannot run is no answer', async () => {
    await using place = await scratch()
    await mkdir(join(place.path, 'bin'))
    const program = join(place.path, 'bin', 'holdfast')
    await copyFile(launcher, program)
    // dirname and the like, but no Node.
    const path = join(place.path, 'path')
    await mkdir(path)
    const env = { PATH: path }
    for (const [act, code] of [
      ['push', 1],
      ['fetch', 255],
    ] as const) {
      const { code: exit, stderr } = await holdfast(['wal', act, 'x', 'y'], { program, env })
      assert.equal(exit, code, stderr)
    }
    // A client that throws ends with 1, as Node does.
    await mkdir(join(place.path, 'node_modules', '.bin'), { recursive: true })
    const node = join(place.path, 'node_modules', '.bin', 'node')
    for (const [script, act, code] of [
      ['exit 1', 'fetch', 255],
      ['exit 44', 'fetch', 1],
      ['kill -9 $$', 'fetch', 255],
      ['kill -9 $$', 'push', 1],
      ['exit 126', 'push', 1],
      ['exit 7', 'push', 7],
    ] as const) {
      await writeFile(node, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
      const { code: exit } = await holdfast(['wal', act, 'x', 'y'], { program })
      assert.equal(exit, code, `${act}: ${script}`)
    }
  })
})

/** A launcher that finds a Node which always ends with 7: what it answers else, it has found by itself. */
async function bareLauncher(path: string, host: WalHost) {
  const program = join(path, 'bin', 'holdfast')
  for (const folder of ['bin', 'node_modules/.bin']) await mkdir(join(path, folder), { recursive: true })
  await copyFile(launcher, program)
  await writeFile(join(path, 'node_modules', '.bin', 'node'), '#!/bin/sh\nexit 7\n', { mode: 0o755 })
  return async (act: string, ...words: string[]) =>
    (await holdfast(['wal', act, '--config', host.config, ...words], { program, cwd: host.dataDir })).code
}

describe('with an agent', () => {
  let server: Versitygw
  let proxy: Interceptor
  before(async () => {
    server = await startVersitygw()
    proxy = await startInterceptor(server.endpoint)
  })
  after(async () => {
    await proxy?.close()
    await server?.stop()
  })
  const inS3 = () => ({
    uri: `s3://${server.bucket}/wal-${randomBytes(4).toString('hex')}`,
    store: { server, endpoint: proxy.url },
  })
  const isPut = (file: string) => (method: string, url: string) =>
    method === 'PUT' && url.includes(`${file}.wal`)
  const isGet = (file: string) => (method: string, url: string) =>
    method === 'GET' && url.includes(`${file}.wal`)

  for (const moment of ['before', 'after'] as const) {
    it(`killed ${moment} the store has the file, PostgreSQL is told so, and asked again it is there once`, async () => {
      await using place = await scratch()
      const host = await walHost(place.path, inS3())
      await writeFile(host.at(name), segmentOf(name))
      const first = await host.startAgent()
      const held = proxy.hold(moment, isPut(name))
      const pushing = host.push(name)
      await held.reached
      await killed(first)
      const ended = await pushing
      assert.equal(ended.code, 1, ended.stderr)
      held.cut()
      const second = await host.startAgent()
      try {
        const again = await host.push(name)
        assert.equal(again.code, 0, again.stderr)
        assert.equal((await host.fetch(name)).code, 0)
        assert.deepEqual(await recovered(host.dataDir), segmentOf(name))
      } finally {
        await killed(second)
      }
    })
  }

  it('a client that is killed does not stop the file; what two ask for at once is done for both', async () => {
    await using place = await scratch()
    const host = await walHost(place.path, inS3())
    await writeFile(host.at(name), segmentOf(name))
    const agent = await host.startAgent()
    try {
      const held = proxy.hold('before', isPut(name))
      const client = start(['wal', 'push', '--config', host.config, host.at(name)])
      await held.reached
      // Only its shell: that the rest of it ends by itself is waited for below.
      client.child.kill('SIGKILL')
      proxy.seen.length = 0
      held.release()
      await client.ended
      assert.equal((await host.push(name)).code, 0)
      const both = await Promise.all([host.push(name), host.push(name)])
      for (const { code, stderr } of both) assert.equal(code, 0, stderr)
    } finally {
      await killed(agent)
    }
  })

  it('what waits is archived before it is asked for', async () => {
    await using place = await scratch()
    const host = await walHost(place.path, inS3())
    for (const one of names) await ready(host.at(one), segmentOf(one))
    const agent = await host.startAgent()
    try {
      proxy.seen.length = 0
      assert.equal((await host.push(name)).code, 0)
      const ahead = names.slice(1)
      await eventually('the others', () =>
        ahead.every(one => proxy.seen.some(line => line.startsWith('PUT') && line.includes(`${one}.wal`)))
          ? true
          : undefined,
      )
      for (const one of ahead) assert.equal((await host.push(one)).code, 0)
      for (const one of names)
        assert.equal(
          proxy.seen.filter(line => line.startsWith('PUT') && line.includes(`${one}.wal`)).length,
          1,
        )
    } finally {
      await killed(agent)
    }
  })

  it('what it has done ahead is taken without Node, and nothing else', async () => {
    await using place = await scratch()
    const host = await walHost(place.path, inS3())
    const [, second = '', third = '', fourth = '', fifth = ''] = names
    for (const one of names) await ready(host.at(one), segmentOf(one))
    const bare = await bareLauncher(place.path, host)
    const shelf = async () => {
      const [, own = ''] = (await readFile(join(place.path, 'etc', 'wal.ahead'), 'utf8')).trim().split(' ')
      return await readdir(join(host.dataDir, 'pg_wal', own)).catch((): string[] => [])
    }
    const laid = (file: string) =>
      eventually(file, async () => ((await shelf()).includes(file) ? true : undefined))
    const agent = await host.startAgent()
    let alive = true
    try {
      assert.equal((await host.push(name)).code, 0)
      for (const one of [second, third, fourth, fifth]) await laid(`${one}.archived`)
      assert.equal(await bare('push', `pg_wal/${second}`), 0)
      assert.equal(await bare('push', `pg_wal/${second}`), 7, 'it was told once')
      await writeFile(host.at(third), segmentOf(third, { seed: 'other' }))
      assert.equal(await bare('push', `pg_wal/${third}`), 7, 'it is another file')
      assert.equal((await host.fetch(name)).code, 0)
      for (const one of [second, fourth]) await laid(one)
      assert.equal(await bare('fetch', second, 'pg_wal/RECOVERYXLOG'), 0)
      assert.deepEqual(await recovered(host.dataDir), segmentOf(second))
      assert.equal(await bare('fetch', '000000010000000000000099', 'pg_wal/RECOVERYXLOG'), 255)
      await utimes(host.config, new Date(), new Date(Date.now() + 60_000))
      assert.equal(await bare('push', `pg_wal/${fourth}`), 7, 'the configuration was changed since')
      await utimes(host.config, new Date(0), new Date(0))
      await killed(agent)
      alive = false
      assert.equal(await bare('push', `pg_wal/${fourth}`), 7, 'no agent')
      const next = await host.startAgent()
      try {
        assert.equal((await host.push(fourth)).code, 0)
        assert.equal(await bare('fetch', fourth, 'pg_wal/RECOVERYXLOG'), 255, 'of an agent that is gone')
        await laid(`${fifth}.archived`)
        assert.equal(await bare('push', `pg_wal/${fifth}`), 0)
      } finally {
        await killed(next)
      }
    } finally {
      if (alive) await killed(agent)
    }
  })

  it('what it is at is waited for without Node', async () => {
    await using place = await scratch()
    const host = await walHost(place.path, inS3())
    const bare = await bareLauncher(place.path, host)
    for (const one of [name, next]) await ready(host.at(one), segmentOf(one))
    const agent = await host.startAgent()
    try {
      const heldPut = proxy.hold('before', isPut(next))
      assert.equal((await host.push(name)).code, 0)
      await heldPut.reached
      const pushing = bare('push', `pg_wal/${next}`)
      heldPut.release()
      assert.equal(await pushing, 0)
      const heldGet = proxy.hold('before', isGet(next))
      assert.equal((await host.fetch(name)).code, 0)
      await heldGet.reached
      const fetching = bare('fetch', next, 'pg_wal/RECOVERYXLOG')
      heldGet.release()
      assert.equal(await fetching, 0)
      assert.deepEqual(await recovered(host.dataDir), segmentOf(next))
    } finally {
      await killed(agent)
    }
  })

  it('killed while it fetches it leaves nothing that recovery could take for a segment', async () => {
    await using place = await scratch()
    const host = await walHost(place.path, inS3())
    const content = segmentOf(name, { segmentBytes: 4 << 20, random: true })
    await writeFile(host.at(name), content)
    assert.equal((await host.push(name)).code, 0)
    const first = await host.startAgent()
    const held = proxy.hold('midway', isGet(name))
    const fetching = host.fetch(name)
    await held.reached
    await killed(first)
    const ended = await fetching
    assert.equal(ended.code, 255, ended.stderr)
    assert.ok(await absent(join(host.dataDir, 'pg_wal', 'RECOVERYXLOG')))
    held.cut()
    const second = await host.startAgent()
    try {
      assert.equal((await host.fetch(name)).code, 0)
      assert.deepEqual(await recovered(host.dataDir), content)
    } finally {
      await killed(second)
    }
  })

  it('a fetch that was given up and ends late places nothing', async () => {
    await using place = await scratch()
    const host = await walHost(place.path, inS3())
    await writeFile(host.at(name), segmentOf(name))
    const agent = await host.startAgent()
    try {
      assert.equal((await host.push(name)).code, 0)
      const held = proxy.hold('before', isGet(name))
      const args = ['wal', 'fetch', '--config', host.config, '--timeout', '1', name]
      const late = holdfast([...args, 'pg_wal/RECOVERYXLOG'], { cwd: host.dataDir })
      await held.reached
      assert.equal((await late).code, 255)
      held.release()
      await eventually('the end of it', async () =>
        (await drafts(host.dataDir)).length > 0 ? true : undefined,
      )
      assert.ok(await absent(join(host.dataDir, 'pg_wal', 'RECOVERYXLOG')))
    } finally {
      await killed(agent)
    }
  })

  it('shows no secret in a command line, an environment, the configuration, or what it prints', async () => {
    await using place = await scratch()
    const there = inS3()
    const host = await walHost(place.path, there)
    await writeFile(host.at(name), segmentOf(name))
    const { signingKey } = JSON.parse(await readFile(join(place.path, 'etc', 'archiver.json'), 'utf8'))
    const canaries = [server.secretAccessKey, signingKey.d]
    const shown: string[] = [await readFile(host.config, 'utf8')]
    const agent = await host.startAgent()
    agent.stderr?.on('data', (text: string) => shown.push(text))
    agent.stdout?.on('data', (text: string) => shown.push(text))
    try {
      const held = proxy.hold('before', isPut(name))
      const pushing = host.push(name)
      await held.reached
      for (const pid of await readdir('/proc')) {
        const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
        if (!command.includes(host.config)) continue
        shown.push(command, await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => ''))
      }
      // The configuration, the agent, and a client with its shell.
      assert.ok(shown.length >= 7, `${shown.length}`)
      held.release()
      await pushing
      const own = there.uri.split('/').at(-1) ?? ''
      proxy.answer((method, url) => isGet(next)(method, url) && url.includes(own), 403, '', 100)
      for (const { stdout, stderr } of [await host.fetch(next), await pushing]) shown.push(stdout, stderr)
      await writeFile(join(place.path, 'secrets', 'secretAccessKey'), 'no longer')
      const { stdout, stderr } = await holdfast(['wal', 'begin', '--config', host.config])
      shown.push(stdout, stderr)
    } finally {
      await killed(agent)
    }
    for (const text of shown) for (const canary of canaries) assert.ok(!text.includes(canary))
  })

  it('segments are fetched ahead; one that was not there yet is asked for again', async () => {
    await using place = await scratch()
    const host = await walHost(place.path, inS3())
    for (const one of names.slice(0, 3)) await writeFile(host.at(one), segmentOf(one))
    for (const one of names.slice(0, 2)) assert.equal((await host.push(one)).code, 0)
    const agent = await host.startAgent()
    try {
      proxy.seen.length = 0
      assert.equal((await host.fetch(name)).code, 0)
      const third = names[2] ?? ''
      await eventually('the look at the third', () =>
        proxy.seen.some(line => line.includes(`${third}.wal`)) ? true : undefined,
      )
      const early = await host.fetch(third)
      assert.equal(early.code, 1, early.stderr)
      assert.equal((await host.push(third)).code, 0)
      assert.equal((await host.fetch(third)).code, 0)
      assert.deepEqual(await recovered(host.dataDir), segmentOf(third))
    } finally {
      await killed(agent)
    }
  })

  it('there is one, and one that was killed is not in the way', async () => {
    await using place = await scratch()
    const store = join(place.path, 'store')
    await mkdir(store)
    const host = await walHost(place.path, { uri: store })
    const first = await host.startAgent()
    const second = await holdfast(['wal', 'agent', '--config', host.config])
    assert.notEqual(second.code, 0)
    assert.match(second.stderr, /request\.in-use/)
    assert.equal((await stat(join(place.path, 'etc', 'wal.sock'))).mode & 0o777, 0o600)
    await killed(first)
    await killed(await host.startAgent())
  })
})

describe('wal init', () => {
  it('writes nothing over, and no secret into the configuration', async () => {
    await using place = await scratch()
    const host = await walHost(place.path, { uri: join(place.path, 'store'), begin: false })
    const text = await readFile(host.config, 'utf8')
    const archiver = JSON.parse(await readFile(join(place.path, 'etc', 'archiver.json'), 'utf8'))
    assert.ok(!text.includes(archiver.signingKey.d))
    assert.equal((await stat(join(place.path, 'etc', 'archiver.json'))).mode & 0o777, 0o600)
    const init = ['wal', 'init', '--config', host.config, '--connection', 'shop', '--pgdata', host.dataDir]
    const again = await holdfast([...init, '--to', '/x', '--not-encrypted'])
    assert.match(again.stderr, /request\.exists/)
    assert.equal((await holdfast([...init, '--to', '/x'])).code, 2, 'encrypted or not has to be said')
  })

  it('a secret in the configuration is refused, and not repeated', async () => {
    await using place = await scratch()
    const canary = 'canary-secret-0123456789'
    const host = await walHost(place.path, {
      uri: 's3://nowhere/x',
      begin: false,
      change: {
        destinations: [
          { uri: 's3://nowhere/x', credentials: { accessKeyId: 'AK', secretAccessKey: canary } },
        ],
      },
    })
    await writeFile(host.at(name), segmentOf(name))
    const { code, stderr, stdout } = await host.push(name)
    assert.equal(code, 1)
    assert.match(stderr, /settings\.invalid/)
    assert.ok(!(stderr + stdout).includes(canary))
  })
})
