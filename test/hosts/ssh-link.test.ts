/** Keys, logins, cuts and reboots: what only a machine at the other end of a link can do. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  fingerprint,
  isHostKey,
  knownHosts,
  type Login,
  openSshHost,
  shownKey,
  sudoLines,
} from '../../hosts/ssh/index.ts'
import { startSshd } from '../servers/sshd.ts'
import { eventually, group, identity, lines } from './support.ts'

const server = await startSshd()
const directory = await mkdtemp(join(tmpdir(), 'holdfast-link-'))
const links = new Set<{ close(): void }>()
after(async () => {
  for (const link of links) link.close()
  await server.stop()
  await rm(directory, { recursive: true, force: true })
})

const { login } = server
let count = 0
async function open(change: Partial<Login> = {}, runAs: string | null = null) {
  count += 1
  const { privateKey, ...rest } = await login()
  const key = 'password' in change || 'agent' in change ? {} : { privateKey: privateKey ?? '' }
  const opened = openSshHost({
    login: { ...rest, ...key, ...change },
    runAs,
    stagingRoot: join(server.home, `staging-${count}`),
  })
  links.add(opened.link)
  return opened
}
const job = { operation: 'op', step: 'step', token: 'a' }
const whoami = async (opened: Awaited<ReturnType<typeof open>>) =>
  (await opened.host.run(job, { stages: [{ argv: ['id', '-un'] }] })).stdout.trim()

test('a key nobody agreed to, and another one than the agreed: nothing is sent', async () => {
  const key = await server.hostKey()
  assert.equal(await shownKey({ ...(await login()) }), key)
  const unknown = await open({ hostKeys: [] })
  await assert.rejects(whoami(unknown), (error: Error & { code?: string; context?: { shown?: string } }) => {
    assert.equal(error.code, 'host.key-unknown')
    assert.equal(error.context?.shown, fingerprint(key))
    return true
  })
  const good = await open()
  assert.equal(await whoami(good), server.user)
  good.link.close()
  await server.changeHostKey()
  const logins = async () => (await server.log()).match(/Accepted|Failed/g)?.length ?? 0
  const before = await logins()
  await assert.rejects(whoami(good), { code: 'host.key-changed' })
  assert.equal(await logins(), before)
  assert.equal(await whoami(await open()), server.user)
})

test('known_hosts: names, ports, hashes, patterns, revoked keys', async () => {
  const key = await server.hostKey()
  assert.ok(isHostKey(key))
  assert.ok(!isHostKey('ssh-ed25519 AAAA'))
  assert.deepEqual(knownHosts(`# x\ndb.example,10.0.0.1 ${key} me\n`, 'DB.example', 22), [key])
  assert.deepEqual(knownHosts(`*.example,!db.example ${key}\n[db.example]:2222 ${key}`, 'db.example', 2222), [
    key,
  ])
  assert.throws(() => knownHosts(`*.example,!db.example ${key}`, 'db.example', 22), {
    code: 'request.invalid',
  })
  assert.throws(() => knownHosts(`db ${key}\n@revoked * ${key}`, 'db', 22), { code: 'request.invalid' })
  assert.throws(() => knownHosts(`@cert-authority db ${key}`, 'db', 22), { code: 'request.invalid' })
  const file = join(directory, 'known_hosts')
  await writeFile(file, `[${server.address}]:${server.port} ${key}\n`)
  const hashing = spawn('ssh-keygen', ['-H', '-f', file], { stdio: 'ignore' })
  await once(hashing, 'exit')
  const { readFile } = await import('node:fs/promises')
  const hashed = await readFile(file, 'utf8')
  assert.match(hashed, /^\|1\|/)
  assert.deepEqual(knownHosts(hashed, server.address, server.port), [key])
})

test('a key under a passphrase, a password, an agent, and refusals', async () => {
  const { protectedKey, passphrase, password } = server
  assert.equal(await whoami(await open({ privateKey: protectedKey, passphrase })), server.user)
  await assert.rejects(async () => whoami(await open({ privateKey: protectedKey, passphrase: 'wrong' })), {
    code: 'host.authentication',
  })
  assert.equal(await whoami(await open({ password })), server.user)
  await assert.rejects(async () => whoami(await open({ password: 'wrong' })), { code: 'host.authentication' })
  await assert.rejects(async () => whoami(await open({ agent: false })), { code: 'host.authentication' })

  const socket = join(directory, 'agent')
  const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' })
  try {
    const file = join(directory, 'key')
    await writeFile(file, server.privateKey, { mode: 0o600 })
    await eventually('the agent to take the key', async () => {
      const adding = spawn('ssh-add', ['-q', file], { stdio: 'ignore', env: { SSH_AUTH_SOCK: socket } })
      const [code] = await once(adding, 'exit')
      return code === 0 ? true : undefined
    })
    process.env.SSH_AUTH_SOCK = socket
    assert.equal(await whoami(await open({ agent: true })), server.user)
  } finally {
    delete process.env.SSH_AUTH_SOCK
    agent.kill()
  }
})

test('through another machine', async () => {
  const jump = await open()
  const behind = await open({ through: jump.link })
  const { stdout } = await behind.host.run(job, lines('echo "$SSH_CLIENT"'))
  // It comes from that machine itself.
  assert.ok(stdout.startsWith(`${server.address} `), stdout)
})

test('sudo that refuses says what it needs', async () => {
  const opened = await open({}, 'postgres')
  await assert.rejects(whoami(opened), (error: Error & { code?: string; hint?: string }) => {
    assert.equal(error.code, 'host.sudo', error.message)
    for (const line of sudoLines(server.user, 'postgres')) assert.ok(error.hint?.includes(line), error.hint)
    return true
  })
})

test('more at a time than a connection has channels', async () => {
  const { host } = await open()
  const streams = await Promise.all(
    Array.from({ length: 5 }, (_, index) =>
      host.stream({ ...job, token: `s${index}` }, lines('while ! [ -e go ]; do sleep 0.1; done; echo went')),
    ),
  )
  const runs = Array.from({ length: 12 }, async (_, index) => {
    const made = await host.run({ ...job, token: `r${index}` }, lines(`echo ${index}`))
    assert.equal(made.stdout, `${index}\n`)
  })
  assert.equal(await host.files.size(host.stagingDir('op')), 0)
  await Promise.all(runs)
  await host.files.write(`${host.stagingDir('op')}/go`, '')
  for (const running of streams) {
    running.stdout.resume()
    assert.deepEqual((await running.result).exits, [0])
  }
})

test('a cut of five seconds is not noticed', async () => {
  const { host } = await open()
  const running = await host.stream(job, lines('for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 1; done'))
  let text = ''
  running.stdout.on('data', chunk => {
    text += chunk
  })
  await sleep(1000)
  await server.cut()
  await sleep(5000)
  await server.mend()
  assert.deepEqual((await running.result).exits, [0])
  assert.equal(text, '1\n2\n3\n4\n5\n6\n7\n8\n')
})

test('a long cut: attached jobs end on both sides, a detached one goes on and is found again', async () => {
  const { host } = await open()
  const running = await host.stream(job, lines('echo up; while :; do sleep 1; done'))
  const fed = await host.feed({ ...job, token: 'f' }, lines('cat > got; echo finished >> got'))
  fed.stdin.write('half')
  const command = lines('i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 1; done')
  const detached = { ...job, token: 'd' }
  await host.jobs.start(detached, command, { stdoutFile: 'out', fence: 1 })
  await once(running.stdout, 'data')
  const leaders = await Promise.all(
    ['a', 'f'].map(async token => (await identity(host, `op/step-${token}`))[0]),
  )
  const got = join(host.stagingDir('op'), 'got')
  await eventually('the data', async () => ((await host.files.readSmall(got)) === 'half' ? true : undefined))
  await server.cut()
  running.stdout.resume()
  await assert.rejects(running.result, { code: 'host.unreachable' })
  await assert.rejects(fed.result, { code: 'host.unreachable' })
  await assert.rejects(host.jobs.status(detached), { code: 'host.unreachable' })
  // Nobody can tell them; their watchers notice by themselves.
  for (const leader of leaders) {
    await eventually('the end of what was attached', async () =>
      (await group(leader)).length === 0 ? true : undefined,
    )
  }
  await server.mend()
  const status = await eventually('the host', async () => host.jobs.status(detached).catch(() => undefined))
  assert.deepEqual(status, { state: 'done', result: { exits: [0], stdout: '', stderrTail: '' } })
  assert.equal((await host.files.readSmall(join(host.stagingDir('op'), 'out')))?.split('\n').length, 41)
  assert.equal(await host.files.readSmall(got), 'half')
  await host.stopOperation('op')
  await host.removeOperation('op')
})

test('a reboot: what ran is lost and can be started anew', async () => {
  const { host } = await open()
  const command = lines('echo once >> ran; while ! [ -e go ]; do sleep 0.1; done')
  await host.jobs.start(job, command, { fence: 1 })
  await eventually('it to run', () => host.files.readSmall(`${host.stagingDir('op')}/ran`))
  await server.reboot()
  assert.equal(
    (await eventually('the host', async () => host.jobs.status(job).catch(() => undefined))).state,
    'lost',
  )
  await host.files.write(`${host.stagingDir('op')}/go`, '')
  await host.jobs.start(job, command, { fence: 2 })
  const ended = await eventually('its end', async () => {
    const { state } = await host.jobs.status(job)
    return state === 'running' ? undefined : state
  })
  assert.equal(ended, 'done')
  assert.equal(await host.files.readSmall(`${host.stagingDir('op')}/ran`), 'once\nonce\n')
})
