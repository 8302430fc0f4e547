/**
 * A secret is nowhere it does not belong: not in any command line, not in the environment of any process but the tool
 * that needs it, not in logs, answers, exported histories, the catalog's files, staging, job directories or destinations.
 */
import assert from 'node:assert/strict'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { type Gcs, startGcs } from '../servers/gcs.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startSshd, type TestSshd } from '../servers/sshd.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { expectNoHistoryShows, filesShowing, processesShowing } from './canaries.ts'
import { type Answer, type Ask, consent, notifier } from './canary-consent.ts'
import { fillRandomPostgres } from './databases.ts'
import { dumpWaits, lockTable } from './sessions.ts'
import { azureInput, gcsInput, type Stack, s3Input, startStack } from './stack.ts'

// Of this very run: another one on this machine has others.
const password = `canary-${randomBytes(9).toString('hex')}-password`
const storeSecret = `canary-${randomBytes(9).toString('hex')}-store-secret`
const userPassword = `canary-${randomBytes(9).toString('hex')}-user`
/** As Azure's are: base64 of 64 bytes. */
const accountKey = randomBytes(64).toString('base64')
const keyPassphrase = `canary-${randomBytes(9).toString('hex')}-passphrase`
const googleSecret = `canary-${randomBytes(9).toString('hex')}-google`
/** What is made on the way is added. */
const canaries = [keyPassphrase, password, storeSecret, userPassword, accountKey, googleSecret]

const filesWith = (directory: string) => filesShowing(canaries, directory)

describe('canary', () => {
  let stack: Stack
  let store: Versitygw
  let blobs: Azurite
  let google: Gcs
  let postgres: TestPostgres
  let server: TestSshd
  const serverStaging = `/var/tmp/holdfast-canary-${process.pid}`

  before(async () => {
    stack = await startStack({ env: { HOLDFAST_LOG_LEVEL: 'debug' }, worker: false })
    stack.startWorker(await notifier(stack.directory))
    store = await startVersitygw({ credentials: { accessKeyId: 'canary', secretAccessKey: storeSecret } })
    blobs = await startAzurite({ accountKey })
    google = await startGcs()
    postgres = await startPostgres({ auth: 'scram', password })
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 10)
    server = await startSshd({ sudo: true })
    canaries.push(server.password, server.passphrase, server.protectedKey.split('\n')[3] ?? '')
  })

  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    await store?.stop()
    await blobs?.stop()
    await google?.stop()
    await server?.stop()
    await rm(serverStaging, { recursive: true, force: true })
  })

  test('secrets are only where they are needed', async () => {
    const answers: string[] = []
    const ask: Ask = async (method, path, body, headers) => {
      const answer = await stack.call<Answer>(method, path, body, headers)
      answers.push(JSON.stringify(answer))
      return answer.body
    }
    await ask('POST', '/v1/users', { name: 'ada', role: 'admin', password: userPassword })
    await ask('POST', '/v1/sessions', { user: 'ada', password: userPassword })
    // In the wrong field, as people do.
    await ask('POST', '/v1/sessions', { user: userPassword, password: 'ada' })
    await ask('PUT', '/v1/users/ada/password', { password: userPassword })
    await ask('POST', '/v1/destinations', s3Input(store, 'vault', 'canary'))
    await ask('POST', '/v1/keys', { name: 'locked', passphrase: keyPassphrase })
    await ask('POST', '/v1/keys/locked/unlock', { passphrase: keyPassphrase })
    // Where none is wanted.
    await ask('POST', '/v1/keys/default/unlock', { passphrase: keyPassphrase, minutes: keyPassphrase })
    await ask('POST', `/v1/keys/locked/lock`, { passphrase: keyPassphrase })
    await ask('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    // Errors quote what was asked: they must not quote secrets.
    await ask('POST', '/v1/connections', { name: 'bad name', url: postgres.url('shop') })
    await ask('POST', '/v1/connections', { name: 'gone', url: postgres.url('no-such-database') })
    await ask('POST', '/v1/connections', {
      name: 'smuggle',
      url: `${postgres.url('shop')}?options=-cfoo=${password}`,
    })
    const { user, address, port, passphrase, protectedKey } = server
    const dbms = { url: `ssh://${user}@${address}:${port}`, hostKeys: [await server.hostKey()] }
    await ask('POST', '/v1/hosts', {
      ...dbms,
      name: 'dbms',
      runAs: 'postgres',
      tempDir: serverStaging,
      secrets: { privateKey: protectedKey, passphrase },
    })
    await ask('POST', '/v1/hosts', { ...dbms, name: 'other', secrets: { password: server.password } })
    await ask('POST', '/v1/hosts', { ...dbms, name: 'smuggle', url: `ssh://u:${server.password}@h` })
    await ask('POST', '/v1/hosts', { ...dbms, name: 'wrong', secrets: { privateKey: passphrase } })
    for (const name of ['dbms', 'other', 'wrong']) await ask('POST', `/v1/hosts/${name}/test`)
    await ask('POST', '/v1/connections', {
      name: 'pg-there',
      url: `postgres://postgres:${password}@/shop?host=${postgres.dataDir}&port=${postgres.port}`,
      host: 'dbms',
    })
    const finish = async (begun: { operation?: { id: string } }) => {
      const view = await stack.ended(begun.operation?.id ?? '')
      answers.push(JSON.stringify(view))
      return view
    }
    await ask('POST', '/v1/destinations', azureInput(blobs, 'blobs', 'canary'))
    await ask('POST', '/v1/destinations', {
      ...azureInput(blobs, 'wrong', 'x'),
      connectionString: accountKey,
    })
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    for (const private_key of [privateKey.export({ type: 'pkcs8', format: 'pem' }), googleSecret]) {
      await ask('POST', '/v1/destinations', {
        ...gcsInput(google, 'google', 'canary'),
        serviceAccountKey: JSON.stringify({
          type: 'service_account',
          client_email: 'holdfast@example.iam.gserviceaccount.com',
          private_key,
          private_key_id: googleSecret,
        }),
      })
    }
    for (const [format, destination, connection = 'pg'] of [
      ['custom', 'vault', 'pg-there'],
      ['directory', 'vault', 'pg-there'],
      ['custom', 'vault'],
      ['custom', 'blobs'],
      ['custom', 'google'],
      ['directory', 'vault'],
    ]) {
      const lock = await lockTable(postgres.url('shop'), 'blobs')
      try {
        const begun = await ask('POST', '/v1/backups', {
          connection,
          destinations: [destination],
          format,
        })
        const id = begun.operation?.id ?? ''
        await dumpWaits(postgres, id)
        const { commandLines, environments } = await processesShowing(canaries, [blobs.pid])
        assert.deepEqual(commandLines, [], 'no command line shows it')
        const [tools, strangers] = [
          environments.filter(one => one.startsWith('pg_dump ')),
          environments.filter(one => !one.startsWith('pg_dump ')),
        ]
        assert.deepEqual(strangers, [], 'no other process has it in its environment')
        assert.notDeepEqual(tools, [], 'the scan sees what there is to see')
        assert.deepEqual(filesWith(stack.home), [], 'nothing below the home while the tool runs')
        assert.deepEqual(filesWith(serverStaging), [], 'nor in staging on the server')
        await lock.release()
        assert.equal((await finish(begun)).state, 'succeeded')
      } finally {
        await lock.release()
      }
    }
    const [backup] = await stack.backups('pg')
    const restored = await ask('POST', '/v1/restores', {
      backup: backup?.id,
      target: { connection: 'pg', database: 'back' },
    })
    assert.equal((await finish(restored)).state, 'succeeded')
    const queries = [{ name: 'words', sql: 'SELECT count(*) FROM words', expect: '2' }]
    const rehearsed = await ask('POST', '/v1/drills', { backup: backup?.id, queries })
    assert.equal((await finish(rehearsed)).state, 'succeeded')
    assert.equal((await finish(await consent(stack, ask, canaries))).state, 'succeeded')
    for (const path of [
      '/v1/connections',
      '/v1/connections/pg',
      '/v1/connections/pg/hooks',
      '/v1/tokens',
      '/v1/sessions',
      '/v1/approvals',
      '/v1/status',
      '/v1/destinations',
      '/v1/operations',
      '/v1/backups',
      '/v1/drills',
      `/v1/drills/${rehearsed.operation?.id}/report`,
      '/v1/users',
      '/v1/audit?limit=200',
      '/openapi.json',
    ]) {
      await ask('GET', path)
    }
    // A password that is wrong, in an operation: its error quotes the tool.
    await postgres.sql("ALTER ROLE postgres PASSWORD 'other'")
    const failing = await ask('POST', '/v1/backups', { connection: 'pg', destinations: ['vault'] })
    assert.equal((await finish(failing)).error?.code, 'database.authentication')

    for (const answer of answers) for (const secret of canaries) assert.ok(!answer.includes(secret), answer)
    assert.deepEqual(filesWith(stack.directory), [], 'logs, catalog, Temporal database, staging, jobs')
    assert.deepEqual(filesWith(store.root), [], 'objects in the store')

    await expectNoHistoryShows(canaries, stack)
  })
})
