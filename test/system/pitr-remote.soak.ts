/**
 * Recovery on other machines from an archive in S3. Over SSH the base backup goes through the link, the log does not, and the replay
 * goes on while the link is cut; where a host has a worker of its own, that does it all. No secret of it shows anywhere.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { launcher } from '../cli/run.ts'
import { startPostgres } from '../servers/postgres.ts'
import { startSshd } from '../servers/sshd.ts'
import { startVersitygw } from '../servers/versitygw.ts'
import { scratch } from '../support/temporary.ts'
import { archived, site } from '../wal/site.ts'
import { expectNoHistoryShows, filesShowing, processesShowing } from './canaries.ts'
import { addWorkerHost } from './host-worker.ts'
import { expectCleanHost, processesWith } from './inspect.ts'
import { type Commit, makeGround, makeLedger, recoveries, withLauncher, write } from './recovering.ts'
import { eventually, s3Input, startStack } from './stack.ts'

const password = `canary-${randomBytes(9).toString('hex')}-password`
const storeSecret = `canary-${randomBytes(9).toString('hex')}-store-secret`

test('a server is recovered from an archive in S3: over SSH, and by a worker of the host', async () => {
  await using place = await scratch()
  const store = await startVersitygw({ credentials: { accessKeyId: 'canary', secretAccessKey: storeSecret } })
  const secret = async (name: string, text: string) => {
    // Read by PostgreSQL's user.
    await writeFile(join(place.path, name), text, { mode: 0o644 })
    return `file:${join(place.path, name)}`
  }
  const on = await site(place.path, {
    uri: `s3://${store.bucket}/log`,
    settings: { endpoint: store.endpoint, region: store.region, pathStyle: true },
    credentials: {
      accessKeyId: await secret('id', store.accessKeyId),
      secretAccessKey: await secret('secret', store.secretAccessKey),
    },
  })
  const stack = await startStack({ env: { HOLDFAST_LOG_LEVEL: 'debug', ...withLauncher } })
  const ground = await makeGround()
  const copies = recoveries(stack, ground, on.configOf('a'), { auth: 'scram', password })
  const host = await startSshd({ sudo: true, programs: dirname(launcher) })
  const server = await startPostgres({
    version: 15,
    auth: 'scram',
    password,
    config: `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'`,
  })
  let agent: Awaited<ReturnType<typeof on.startAgent>> | undefined
  try {
    await on.configured('a', server.dataDir)
    // What is fetched goes through it: the network of that host does not reach our S3.
    agent = await on.startAgent('a')
    await makeLedger(server.sql)
    await archived(server.sql)
    await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'log'))
    await stack.expectOk('POST', '/v1/hosts', {
      name: 'dbms',
      url: `ssh://${host.user}@${host.address}:${host.port}`,
      tempDir: join(ground, 'staging'),
      hostKeys: [await host.hostKey()],
      secrets: { privateKey: host.privateKey },
      runAs: 'postgres',
    })
    const url = `postgres://postgres:${password}@/postgres?host=${server.dataDir}&port=${server.port}`
    const connection = { name: 'shop', url, host: 'dbms', method: 'physical' }
    await stack.expectOk('POST', '/v1/connections', connection)
    const commits: Commit[] = []
    const writeSome = async (count: number) => {
      for (let i = 0; i < count; i += 1) commits.push(await write(server.sql))
    }
    await writeSome(3)
    const made = await stack.ended((await stack.backup({ connection: 'shop', destinations: ['vault'] })).id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    for (let segment = 0; segment < 3; segment += 1) {
      await writeSome(4)
      await archived(server.sql)
    }
    const { lsn } = commits[9] ?? assert.fail('commit 10')
    const canaries = [password, storeSecret, host.privateKey.split('\n')[3] ?? assert.fail('no key')]
    const to = { kind: 'lsn', lsn, inclusive: false }
    const replaying = (name: string) =>
      eventually('it replays', async () =>
        processesWith(`${join(ground, name)}.holdfast-`).some(line => line.includes('recovery_target_lsn'))
          ? true
          : undefined,
      )
    const numbers = commits.slice(0, 10).map(({ number }) => number)

    const remote = await copies.recover(to, 'remote')
    await replaying('remote')
    // What fetches the log has read its credentials from where wal.json says.
    const shown = await processesShowing(canaries, [])
    assert.deepEqual(shown, { commandLines: [], environments: [] })
    await host.cut()
    await sleep(5000)
    await host.mend()
    const view = await stack.ended(remote.id, 240)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    await copies.expectNumbers('remote', numbers)
    assert.deepEqual(processesWith(remote.id), [])

    const own = await addWorkerHost(stack, 'db1')
    let worker = own.begin()
    await own.polling()
    const there = { name: 'there', url: server.url(), host: 'db1', method: 'physical' }
    await stack.expectOk('POST', '/v1/connections', there)
    const target = { connection: 'there', directory: join(ground, 'own') }
    const local = await copies.recover(to, 'own', { target })
    await replaying('own')
    await worker.kill9()
    worker = own.begin()
    const ended = await stack.ended(local.id, 240)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    expectCleanHost(own.home, local.id)
    await copies.expectNumbers('own', numbers)

    for (const directory of [stack.directory, ground, store.root]) {
      assert.deepEqual(filesShowing(canaries, directory), [], directory)
    }
    await expectNoHistoryShows(canaries, stack)
  } finally {
    await host.mend()
    await stack.stop()
    agent?.child.kill('SIGTERM')
    await agent?.ended
    await server.stop()
    await host.stop()
    await store.stop()
    await copies.remove()
  }
})
