/** What workers ask, over HTTP: every answer and every error arrives as it left. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { catalogClient } from '../../catalog/client.ts'
import { openCatalog } from '../../catalog/open.ts'
import { insertOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { WorkerCatalog } from '../../catalog/worker.ts'
import { operation } from '../catalog/support.ts'
import { attemptOf, commit, newBackupId, opened, workerOf } from './backups.ts'
import { startTestApi, type TestApi } from './support.ts'

describe('worker routes', () => {
  let t: TestApi
  let catalog: WorkerCatalog
  const backupId = newBackupId()
  const names = { operationId: 'op-worker00000', backupId, connection: 'shop', destination: 'vault' }

  before(async () => {
    t = await startTestApi()
    await t.addSqlite('shop')
    await t.addDestination('vault')
    await t.call('POST', '/v1/keys', { name: 'default' })
    await t.restart(async () => {
      const direct = await openCatalog({
        url: t.settings.catalogUrl,
        secretKey: (await ensureSecretKey(t.settings)).key,
      })
      // Temporal is not there, so the reconciler leaves it alone.
      await insertOperation(
        direct,
        operation(names.operationId, { backupId, state: 'running', runId: 'r' }),
        null,
      )
      await direct.close()
    })
    catalog = workerOf(t)
  })
  after(() => t.stop())

  test('records of connections and destinations', async () => {
    const connection = await catalog.connection('shop')
    assert.deepEqual(Object.keys(connection).sort(), [
      'createdAt',
      'engine',
      'host',
      'method',
      'name',
      'secretFields',
      'serverIdentity',
      'serverVersion',
      'settings',
    ])
    assert.deepEqual(await catalog.connectionSecrets('shop'), {})
    assert.equal((await catalog.destination('vault')).record.kind, 'local')
    await assert.rejects(catalog.connection('none'), { name: 'HoldfastError', code: 'request.not-found' })
    await assert.rejects(catalog.connectionSecrets('none'), { code: 'request.not-found' })
  })

  test('plans: the first one wins, undefined arrives as undefined', async () => {
    assert.equal(await catalog.plan(names.operationId), undefined)
    const plan = { operationId: names.operationId, digest: 'one', plan: { steps: [1] } }
    assert.deepEqual(await catalog.storePlan(plan), plan)
    assert.deepEqual(await catalog.storePlan({ ...plan, digest: 'two' }), plan)
    assert.deepEqual(await catalog.plan(names.operationId), plan)
  })

  test('data keys are wrapped and opened by the process that holds the keys', async () => {
    const dataKey = randomBytes(32).toString('base64url')
    const { jwe, own } = await catalog.wrapDataKey(dataKey, ['default'])
    for (const wrapped of [jwe, own]) {
      assert.ok(!JSON.stringify(wrapped).includes(dataKey))
      assert.equal((wrapped.recipients as unknown[]).length, 1)
      assert.equal(await catalog.unwrapDataKey(wrapped), dataKey)
    }
    await assert.rejects(catalog.wrapDataKey(dataKey, ['nobody']), { code: 'key.missing' })
    await assert.rejects(catalog.wrapDataKey('short', ['default']), { code: 'request.invalid' })
    const other = await startTestApi()
    try {
      await assert.rejects(workerOf(other).unwrapDataKey(jwe), { code: 'key.missing', message: /default/ })
    } finally {
      await other.stop()
    }
  })

  test('only manifests of recorded attempts of ours are signed', async () => {
    const to = await opened(t, 'vault')
    try {
      const attempt = await attemptOf(t, to, names)
      const manifest = await commit(t, to, names, attempt)
      const { signature } = await catalog.signManifest(manifest)
      assert.match(signature, /^[\w-]+\.\.[\w-]+$/)
      await assert.rejects(catalog.signManifest({ ...manifest, attemptId: 'unknown' }), {
        code: 'request.forbidden',
      })
      await assert.rejects(catalog.signManifest({ ...manifest, installationId: 'another' }), {
        code: 'request.forbidden',
      })
      const { installationId, publicKey } = await catalog.writer()
      assert.deepEqual((await catalog.trustedInstallations())[installationId], publicKey)
      assert.equal((await catalog.attempts(names.operationId)).length, 1)
    } finally {
      await to.close()
    }
  })

  test('updates: an idempotent close, and false afterwards', async () => {
    const phases = [
      { phase: 'plan' as const, state: 'running' as const, startedAt: new Date().toISOString() },
    ]
    assert.equal(await catalog.updateOperation(names.operationId, { state: 'running', phases }), true)
    assert.deepEqual(await catalog.closedOperations([names.operationId, 'op-unknown']), [])
    const error = {
      code: 'tool.failed' as const,
      detail: 'it failed',
      hint: 'look',
      context: { exitCode: 1 },
    }
    assert.equal(await catalog.updateOperation(names.operationId, { state: 'failed', error }), true)
    assert.equal(await catalog.updateOperation(names.operationId, { state: 'failed', error }), false)
    const { body } = await t.call<{ error: unknown }>('GET', `/v1/operations/${names.operationId}`)
    assert.deepEqual(body.error, error)
    await assert.rejects(
      catalog.recordVerification('none', 'vault', {
        at: new Date().toISOString(),
        level: 'exists',
        ok: true,
        detail: '',
      }),
      {
        code: 'backup.not-found',
      },
    )
  })

  test('other tokens, unknown methods and malformed arguments are refused', async () => {
    const publicToken = catalogClient({ url: t.api.url, token: t.token })
    await assert.rejects(publicToken.writer(), { code: 'request.unauthenticated' })
    const post = (path: string, body: string) =>
      fetch(`${t.api.url}/internal/v1/${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${t.workerToken}`, 'content-type': 'application/json' },
        body,
      })
    for (const [path, body, status] of [
      ['constructor', '{"args":[]}', 404],
      ['toString', '{"args":[]}', 404],
      ['writer', 'nonsense', 422],
      ['connection', '{"args":["../x"]}', 422],
      ['connection', '{"args":[]}', 422],
      ['rememberEpoch', '{"args":["vault",0]}', 422],
      ['updateOperation', '{"args":["op-1",{"engine":"x"}]}', 422],
    ] as const) {
      assert.equal((await post(path, body)).status, status, `${path} ${body}`)
    }
  })

  test('an API that is away is waited for; one that stays away is unreachable', async () => {
    // The same address answers again.
    t.settings.apiListen.port = Number(new URL(t.api.url).port)
    const client = workerOf(t)
    let asked: Promise<{ installationId: string }> | undefined
    await t.restart(async () => {
      asked = client.writer()
      // It is refused at least once before the API is back.
      await assert.rejects(fetch(`${t.api.url}/healthz`))
    })
    assert.ok((await asked)?.installationId)
    const away = catalogClient({ url: 'http://127.0.0.1:1', token: 'x' })
    await assert.rejects(away.writer(), { code: 'api.unreachable' })
  })
})
