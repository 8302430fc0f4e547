/** The token of one host opens nothing of another: every method that workers have, asked with it for what is another host's. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { guarded } from '../../api/host-guard.ts'
import { recordAttempt } from '../../catalog/attempts.ts'
import { recordBackup } from '../../catalog/backups.ts'
import { catalogClient } from '../../catalog/client.ts'
import { insertConnection } from '../../catalog/connections.ts'
import { hostWorkerOf } from '../../catalog/hosts.ts'
import { wantLogStream } from '../../catalog/log-streams.ts'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import { insertOperation, updateOperation } from '../../catalog/operations.ts'
import { storePlan } from '../../catalog/plans.ts'
import { offerProbe } from '../../catalog/probes.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { WorkerCatalog } from '../../catalog/worker.ts'
import { wholeCompression } from '../../model/compression.ts'
import type { HoldfastError } from '../../model/errors.ts'
import type { LogStreamState } from '../../model/log-stream.ts'
import { associatedDataFor, type Manifest } from '../../model/manifest.ts'
import type {
  AttemptRecord,
  BackupInput,
  HostWorker,
  OperationUpdate,
  RestoreInput,
} from '../../model/records.ts'
import type { Json } from '../../model/types.ts'
import type { WalHeader } from '../../model/wal-format.ts'
import { backupPrefix } from '../../storage/backups.ts'
import { createSealer } from '../../storage/tink.ts'
import { operation } from '../catalog/support.ts'
import { newBackupId, opened, workerOf } from './backups.ts'
import { startTestApi, type TestApi } from './support.ts'

type Host = 'a' | 'b'
const both: Host[] = ['a', 'b']
const systemIdentifierOf = { a: '7000000000000000001', b: '7000000000000000002' }

interface Theirs {
  backupId: string
  attemptId: string
  /** A data key of that backup, as it lies in the destination, and for the installation alone. */
  dataKey: string
  jwe: Record<string, Json>
  own: Record<string, Json>
  probe: string
}

describe('the token of a host', () => {
  let t: TestApi
  const theirs = {} as Record<Host, Theirs>
  const tokens = {} as Record<Host, string>
  let installation = ''
  const as = (host: Host): WorkerCatalog => catalogClient({ url: t.api.url, token: tokens[host] })
  const making = (host: Host) => `op-backup-${host}00000`
  const reading = (host: Host) => `op-restore-${host}0000`

  before(async () => {
    t = await startTestApi()
    await t.call('POST', '/v1/keys', { name: 'default' })
    for (const host of both) {
      await t.addDestination(`vault-${host}`)
      assert.equal((await t.call('POST', '/v1/hosts', { name: host, url: 'worker:' })).status, 201)
      const made = await t.call<{ token: string }>('POST', `/v1/hosts/${host}/token`, {})
      tokens[host] = made.body.token
      const dataKey = randomBytes(32).toString('base64url')
      const wrapped = await workerOf(t).wrapDataKey(dataKey, ['default'])
      theirs[host] = {
        backupId: newBackupId(),
        attemptId: `attempt-${host}`,
        dataKey,
        ...wrapped,
        probe: '',
      }
    }
    const { installationId } = await workerOf(t).writer()
    installation = installationId
    const objects = Object.fromEntries(
      await Promise.all(both.map(async host => [host, await putSealed(host, installationId)] as const)),
    )
    await t.restart(async () => {
      const direct = await openCatalog({
        url: t.settings.catalogUrl,
        secretKey: (await ensureSecretKey(t.settings)).key,
      })
      for (const host of both) await enter(direct, host, installationId, objects[host] ?? 0)
      await direct.close()
    })
  })
  after(() => t.stop())

  const objectOf = (host: Host) => `${theirs[host].attemptId}/items.zst.tink`

  /** An artifact of one small segment. */
  async function putSealed(host: Host, installationId: string): Promise<number> {
    const { backupId, dataKey } = theirs[host]
    const sealer = createSealer({
      dataKey: Buffer.from(dataKey, 'base64url'),
      salt: randomBytes(32),
      noncePrefix: randomBytes(7),
      associatedData: associatedDataFor(installationId, backupId, 'items'),
    })
    const body = Buffer.concat([sealer.header, ...sealer.update(Buffer.from('rows')), ...sealer.final()])
    const vault = await opened(t, `vault-${host}`)
    await vault.put(`${backupPrefix(host, backupId)}${objectOf(host)}`, body)
    await vault.close()
    return body.length
  }

  /** A connection there, a backup and a restore that are under way, and a backup that was made. */
  async function enter(
    direct: Catalog,
    host: Host,
    installationId: string,
    storedBytes: number,
  ): Promise<void> {
    const { backupId, attemptId, jwe, own } = theirs[host]
    const worker = await hostWorkerOf(direct, host)
    assert.ok(worker)
    await insertConnection(
      direct,
      {
        name: host,
        engine: 'postgresql',
        method: 'logical',
        settings: {},
        secretFields: ['password'],
        host,
        serverIdentity: `postgresql:${systemIdentifierOf[host]}/${host}`,
        serverVersion: '17',
        createdAt: new Date().toISOString(),
        address: host,
        requestKey: null,
        twoPerson: false,
        canary: false,
      },
      { password: `password-of-${host}` },
    )
    const running = { state: 'running', runId: 'r', connection: host } as const
    await insertOperation(
      direct,
      operation(making(host), {
        ...running,
        backupId,
        workflowId: `op/${host}`,
        input: backupInput(host, worker),
      }),
      null,
    )
    await insertOperation(
      direct,
      operation(reading(host), {
        ...running,
        kind: 'restore',
        backupId,
        workflowId: `op/other-${host}`,
        input: restoreInput(host, worker),
      }),
      null,
    )
    await storePlan(direct, { operationId: making(host), digest: 'd', plan: { of: host } })
    await recordAttempt(direct, attempt(host, jwe, own))
    const manifest = {
      installationId,
      attemptId,
      artifacts: [{ name: 'items', object: objectOf(host), storedBytes, encryption: {} }],
    } as unknown as Manifest
    await recordBackup(
      direct,
      {
        id: backupId,
        connection: host,
        engine: 'postgresql',
        method: 'logical',
        type: 'full',
        operationId: making(host),
        serverIdentity: `server-${host}`,
        database: host,
        encrypted: true,
        toolBytes: 4,
        storedBytes,
        startedAt: new Date().toISOString(),
        endedAt: new Date().toISOString(),
        labels: {},
        manifest,
      },
      [{ destination: `vault-${host}`, committedAt: new Date().toISOString() }],
    )
    await wantLogStream(direct, {
      connection: host,
      destinations: [`vault-${host}`],
      recipients: ['default'],
      slot: 'slot',
      spoolLimitBytes: 2 ** 30,
      slotLimitBytes: 2 ** 30,
    })
    theirs[host].probe = await offerProbe(direct, host, { password: `asked-${host}` })
  }

  const backupInput = (host: Host, hostWorker: HostWorker): BackupInput => ({
    version: 1,
    operationId: making(host),
    backupId: theirs[host].backupId,
    connection: host,
    engine: 'postgresql',
    method: 'logical',
    serverIdentity: `server-${host}`,
    destinations: [`vault-${host}`],
    failover: {},
    type: 'full',
    toolFormat: 'custom',
    jobs: 1,
    compression: wholeCompression({}),
    recipients: ['default'],
    labels: {},
    dryRun: false,
    unattended: false,
    parkSeconds: 60,
    parkRetrySeconds: 60,
    hostWorker,
  })
  const restoreInput = (host: Host, hostWorker: HostWorker): RestoreInput => ({
    version: 1,
    operationId: reading(host),
    backupId: theirs[host].backupId,
    copies: [`vault-${host}`],
    sourceConnection: host,
    targetConnection: host,
    targetEngine: 'postgresql',
    targetDatabase: 'back',
    serverIdentity: `server-${host}`,
    jobs: 1,
    noOwner: false,
    dryRun: false,
    preempt: false,
    overwriteExisting: false,
    keepOldSeconds: 60,
    safetyBackup: null,
    approvalId: null,
    before: [],
    unattended: false,
    parkSeconds: 60,
    parkRetrySeconds: 60,
    hostWorker,
  })
  const attempt = (
    host: Host,
    jwe: Record<string, Json>,
    own: Record<string, Json>,
    more: Partial<AttemptRecord> = {},
  ): AttemptRecord => ({
    attemptId: theirs[host].attemptId,
    operationId: making(host),
    backupId: theirs[host].backupId,
    connection: host,
    destinations: [`vault-${host}`],
    createdAt: new Date().toISOString(),
    artifacts: [
      {
        name: 'items',
        key: `${backupPrefix(host, theirs[host].backupId)}${objectOf(host)}`,
        uploads: {},
        encryption: { jwe, own, salt: '', noncePrefix: '', associatedData: '' },
        encoder: 'none',
        compression: wholeCompression({}),
      },
    ],
    ...more,
  })

  const now = new Date().toISOString()
  const kept = (host: Host) => ({
    operationId: reading(host),
    state: 'kept' as const,
    connection: host,
    name: 'old',
    identity: '1',
    look: '',
    goBack: '',
    keepUntil: new Date().toISOString(),
    endedAt: null,
  })
  const streamState: LogStreamState = {
    at: now,
    receiving: true,
    held: null,
    timeline: 1,
    serverLsn: '0/3000000',
    receivedLsn: null,
    archivedLsn: null,
    archivedAt: null,
    lagBytes: null,
    lagSeconds: null,
    slot: null,
    spoolBytes: 0,
    freeBytes: 1,
    receiveTrouble: null,
    archiveTrouble: null,
    lost: null,
  }
  const headerOf = (host: Host): WalHeader => ({
    format: 'holdfast-wal/1',
    connection: host,
    systemIdentifier: systemIdentifierOf[host],
    name: '000000010000000000000003',
    contentBytes: 1,
    contentSha256: '0'.repeat(64),
    compression: { codec: 'zstd', level: 3, encoder: 'node' },
    encryption: null,
    bodyBytes: 1,
    bodySha256: '0'.repeat(64),
    archiver: installation,
    archivedAt: now,
  })
  const run = { name: 'hook', startedAt: new Date().toISOString(), endedAt: null, ok: null, detail: '' }
  const entry = { id: '1', at: new Date().toISOString(), source: 'tool', text: 'said' }
  const anyManifest = (host: Host) =>
    ({
      format: 'holdfast-manifest/1',
      backupId: theirs[host].backupId,
      installationId: 'i',
      epoch: 1,
      attemptId: theirs[host].attemptId,
      connection: host,
      engine: 'postgresql',
      method: 'logical',
      toolFormat: 'custom',
      type: 'full',
      consistency: 'snapshot',
      server: { identity: 's', version: '17', database: 'd' },
      facts: {},
      tools: [],
      commands: [],
      artifacts: [
        {
          name: 'items',
          object: objectOf(host),
          format: 'sqlite-file',
          storedBytes: 1,
          storedSha256: '0'.repeat(64),
          toolBytes: 1,
          compressedBytes: 1,
          compression: { codec: 'zstd', level: 3, encoder: 'none', frameBytes: 4194304, frames: 1 },
          encryption: null,
        },
      ],
      parent: null,
      startedAt: now,
      endedAt: now,
      labels: {},
    }) satisfies Manifest
  const backupFacts = (host: Host) => ({
    id: theirs[host].backupId,
    connection: host,
    engine: 'postgresql' as const,
    method: 'logical' as const,
    type: 'full' as const,
    operationId: making(host),
    serverIdentity: 's',
    database: 'd',
    encrypted: true,
    toolBytes: 1,
    storedBytes: 1,
    startedAt: '',
    endedAt: '',
    labels: {},
    manifest: anyManifest(host),
  })

  /**
   * Every method, with what is of this host. `yes`: the worker of that host may. `never`: no worker of a host may, of its own
   * neither. `all`: says nothing of anybody.
   */
  const walk: {
    [M in keyof WorkerCatalog]: ['yes' | 'never' | 'all', (host: Host) => Parameters<WorkerCatalog[M]>]
  } = {
    ownWorker: ['yes', host => [host]],
    probeSecrets: ['yes', host => [theirs[host].probe]],
    connection: ['yes', host => [host]],
    connectionSecrets: ['yes', host => [host]],
    hostOf: ['yes', host => [making(host)]],
    host: ['never', host => [host]],
    destination: ['yes', host => [`vault-${host}`]],
    storePlan: ['yes', host => [{ operationId: reading(host), digest: 'd', plan: {} }]],
    plan: ['yes', host => [making(host)]],
    recordAttempt: ['yes', host => [attempt(host, theirs[host].jwe, theirs[host].own)]],
    attempts: ['yes', host => [making(host)]],
    writer: ['all', () => []],
    trustedInstallations: ['all', () => []],
    rememberedEpoch: ['yes', host => [`vault-${host}`]],
    rememberEpoch: ['never', host => [`vault-${host}`, 7]],
    wrapDataKey: ['all', host => [theirs[host].dataKey, ['default']]],
    unwrapDataKey: ['yes', host => [theirs[host].jwe]],
    planScrub: ['never', host => [making(host)]],
    recordPassedOver: ['never', host => [theirs[host].backupId, `vault-${host}`]],
    dueMoves: ['never', host => [making(host)]],
    mayMove: ['never', host => [`vault-${host}`, theirs[host].backupId]],
    recordTier: ['never', host => [theirs[host].backupId, `vault-${host}`, null]],
    markDeleted: ['never', host => [theirs[host].backupId, `vault-${host}`]],
    planSweep: ['never', host => [making(host)]],
    standings: ['never', host => [making(host), `vault-${host}`, [theirs[host].backupId]]],
    claimLeftovers: ['never', host => [making(host), `vault-${host}`, theirs[host].backupId]],
    unclaim: ['never', host => [making(host)]],
    recentlyEnded: ['never', host => [`vault-${host}`]],
    statesOf: ['never', host => [[making(host)]]],
    noteSwept: ['never', host => [making(host), `vault-${host}`, []]],
    noteUnswept: [
      'never',
      host => [making(host), `vault-${host}`, { code: 'destination.read-only', detail: 'x' }],
    ],
    beginRotation: ['never', host => [making(host)]],
    rewrapDataKeys: ['never', host => [making(host), []]],
    leftByRotation: ['never', host => [making(host)]],
    openedAt: ['never', host => [`vault-${host}`, 'kid']],
    recordOpeners: [
      'never',
      host => [{ destination: `vault-${host}`, connection: host, backupId: theirs[host].backupId }, []],
    ],
    signManifest: ['never', host => [anyManifest(host)]],
    recordBackup: [
      'never',
      host => [backupFacts(host), [{ destination: `vault-${host}`, committedAt: new Date().toISOString() }]],
    ],
    foreign: ['yes', host => [theirs[host].backupId]],
    recordForeignReading: ['never', host => [theirs[host].backupId, { sha256: '0'.repeat(64) }]],
    recordVerification: [
      'never',
      host => [
        theirs[host].backupId,
        `vault-${host}`,
        { at: new Date().toISOString(), level: 'exists', ok: false, detail: '' },
      ],
    ],
    wantApproval: ['never', host => [reading(host), { planDigest: 'd', targetName: 't' }]],
    weighApproval: ['never', host => [reading(host), 'x']],
    expireApproval: ['never', host => [reading(host)]],
    withdrawApproval: ['never', host => [reading(host)]],
    useApproval: ['never', host => [reading(host), { approvalId: 'x', runId: 'r', planDigest: 'd' }]],
    beginDestructive: ['yes', host => [reading(host), 'exchange', 'r']],
    finishDestructive: ['yes', host => [reading(host), 'exchange']],
    destructiveSteps: ['yes', host => [reading(host)]],
    beginRollBack: ['yes', host => [reading(host)]],
    recordKept: ['yes', host => [kept(host)]],
    kept: ['yes', host => [reading(host)]],
    endKept: ['yes', host => [reading(host), 'gone']],
    openPart: ['never', host => [reading(host), 'r']],
    restoreDump: ['never', host => [reading(host)]],
    noteExamined: ['yes', host => [reading(host), { rows: [], canary: null }]],
    noteReplayed: [
      'yes',
      host => [reading(host), { lsn: null, lastTransactionAt: null, stoppedAt: null, timeline: 1 }],
    ],
    noteTornDown: ['yes', host => [reading(host)]],
    writeDrillReport: ['never', host => [reading(host)]],
    updateOperation: ['yes', host => [making(host), { commands: ['pg_dump'] }]],
    pauseWanted: ['yes', host => [making(host)]],
    claimStaging: [
      'yes',
      host => [
        {
          operationId: making(host),
          purpose: 'tools',
          fileSystem: 'boot:1',
          bytes: 1,
          writtenBytes: 0,
          freeBytes: 2,
          how: 'ask',
        },
      ],
    ],
    releaseStaging: ['yes', host => [making(host), 'tools']],
    bandwidthShare: [
      'yes',
      host => [
        { transfer: 'x', operationId: making(host), destination: `vault-${host}`, host, wanted: null },
      ],
    ],
    hooks: ['yes', host => [host]],
    hookRun: ['yes', host => [making(host), 'hook']],
    recordHookRun: ['yes', host => [making(host), run]],
    appendLog: ['yes', host => [making(host), entry]],
    closedOperations: ['all', host => [[making(host)]]],
    logStream: ['yes', host => [host]],
    noteLogStream: ['yes', host => [host, streamState]],
    endLogStream: ['yes', host => [host, 'keep']],
    signLogHeader: ['yes', host => [headerOf(host)]],
    makeWay: ['never', host => [reading(host)]],
    startDue: ['never', () => [{ scheduleId: 'x', dueAt: new Date().toISOString() }]],
  }

  const ask = (host: Host, method: keyof WorkerCatalog, args: readonly unknown[]) =>
    (as(host)[method] as (...given: readonly unknown[]) => Promise<unknown>)(...args)
  const refusedAs = (error: unknown) => (error as HoldfastError).code

  for (const [method, [verdict, argsFor]] of Object.entries(walk) as [
    keyof WorkerCatalog,
    (typeof walk)[keyof WorkerCatalog],
  ][]) {
    test(`${method}: ${verdict}`, async () => {
      if (verdict === 'all') {
        await ask('a', method, argsFor('b'))
        return
      }
      await assert.rejects(ask('a', method, argsFor('b')), { code: 'request.forbidden' })
      if (verdict === 'never') {
        await assert.rejects(ask('a', method, argsFor('a')), { code: 'request.forbidden' })
        return
      }
      // What the catalog itself refuses, as a step of no approved restore, is past the question whose it is.
      const own = await ask('a', method, argsFor('a')).then(() => 'answered', refusedAs)
      assert.notEqual(own, 'request.forbidden')
    })
  }

  test('what it may read is what is there', async () => {
    assert.deepEqual(await as('a').connectionSecrets('a'), { password: 'password-of-a' })
    assert.deepEqual(await as('b').probeSecrets(theirs.b.probe), { password: 'asked-b' })
    assert.deepEqual((await as('a').plan(making('a')))?.plan, { of: 'a' })
    assert.equal(await as('a').hostOf(making('a')), 'a')
    assert.equal(await as('a').unwrapDataKey(theirs.a.own), theirs.a.dataKey)
    assert.equal(await as('a').unwrapDataKey(theirs.a.jwe), theirs.a.dataKey)
    assert.equal(await as('b').unwrapDataKey(theirs.b.jwe), theirs.b.dataKey)
  })

  test("a wrapped key of another host's backup is not opened by claiming it", async () => {
    const claims = [
      attempt('a', theirs.a.jwe, theirs.b.jwe, { attemptId: 'claimed' }),
      attempt('a', theirs.b.jwe, theirs.b.jwe, { attemptId: 'claimed' }),
    ]
    for (const claim of claims) {
      await as('a').recordAttempt(claim)
      await assert.rejects(as('a').unwrapDataKey(theirs.b.jwe), { code: 'request.forbidden' })
    }
    // Nor by giving its attempt to an operation of one's own, or its destination.
    await assert.rejects(
      as('a').recordAttempt(attempt('a', theirs.b.jwe, theirs.b.jwe, { attemptId: theirs.b.attemptId })),
      { code: 'operation.conflict' },
    )
    for (const more of [
      { destinations: ['vault-b'] },
      { backupId: theirs.b.backupId },
      { connection: 'b' },
    ]) {
      await assert.rejects(as('a').recordAttempt(attempt('a', theirs.a.jwe, theirs.a.own, more)), {
        code: 'request.forbidden',
      })
    }
  })

  test('it does not close, approve or sign what is of its host', async () => {
    const updates: OperationUpdate[] = [{ state: 'succeeded' }, { error: null }, { warnings: [] }]
    for (const update of updates) {
      await assert.rejects(as('a').updateOperation(making('a'), update), { code: 'request.forbidden' })
    }
    await assert.rejects(as('a').wrapDataKey(theirs.a.dataKey, ['another']), { code: 'request.forbidden' })
    assert.deepEqual(await as('a').closedOperations([making('a'), making('b')]), [])
  })

  test('what it was refused is audited, with the host and without what was asked', async () => {
    const { body } = await t.call<{ items: { actor: string; action: string; outcome: string }[] }>(
      'GET',
      `/v1/audit?limit=100&actor=host:a&action=${encodeURIComponent('POST /internal/v1/connectionSecrets')}`,
    )
    assert.ok(body.items.length > 0)
    assert.ok(body.items.every(({ outcome }) => outcome === 'refused'))
  })

  test('it is no token of a person, and neither lists nor shows itself', async () => {
    const asPerson = { authorization: `Bearer ${tokens.a}` }
    assert.equal((await t.call('GET', '/v1/hosts', undefined, asPerson)).status, 401)
    const listed = JSON.stringify([
      (await t.call('GET', '/v1/tokens')).body,
      (await t.call('GET', '/v1/hosts')).body,
    ])
    assert.ok(!listed.includes(tokens.a))
    assert.ok(!listed.includes('host/a'))
    assert.ok(!t.log().includes(tokens.a))
  })

  test('a new one takes the place of the old, and one that is revoked opens nothing', async () => {
    const before = as('b')
    const { body } = await t.call<{ token: string }>('POST', '/v1/hosts/b/token', {})
    await assert.rejects(before.writer(), { code: 'request.unauthenticated' })
    tokens.b = body.token
    await as('b').writer()
    assert.equal((await t.call('DELETE', '/v1/hosts/b/token')).status, 204)
    await assert.rejects(as('b').writer(), { code: 'request.unauthenticated' })
  })

  test('only a host with a worker of its own has one', async () => {
    await t.call('POST', '/v1/hosts', { name: 'over-ssh', url: 'ssh://dba@192.0.2.1' })
    assert.equal((await t.refused('POST', '/v1/hosts/over-ssh/token', {})).code, 'request.invalid')
    assert.equal((await t.refused('POST', '/v1/hosts/nowhere/token', {})).code, 'request.not-found')
    const odd = await t.refused('POST', '/v1/hosts', { name: 'odd', url: 'worker:', runAs: 'postgres' })
    assert.equal(odd.code, 'request.invalid')
    const directory = { name: 'there', uri: 'server://a/srv/backups' }
    assert.match(JSON.stringify(await t.refused('POST', '/v1/destinations', directory)), /worker of its own/)
  })

  for (const [what, inputOf] of [
    ['an incremental backup is made against', 'backup'],
    ['a restore puts together', 'restore'],
  ] as const) {
    test(`what ${what} is open to it, be it another host's`, async () => {
      const needed = { backupId: theirs.b.backupId, copies: ['vault-b'], sourceConnection: 'b' }
      await assert.rejects(as('a').destination('vault-b'), { code: 'request.forbidden' })
      await assert.rejects(as('a').unwrapDataKey(theirs.b.jwe), { code: 'request.forbidden' })
      const id = `op-needing-${inputOf}`
      const withCatalog = async (work: (direct: Catalog) => Promise<unknown>) =>
        await t.restart(async () => {
          const direct = await openCatalog({
            url: t.settings.catalogUrl,
            secretKey: (await ensureSecretKey(t.settings)).key,
          })
          await work(direct).finally(() => direct.close())
        })
      await withCatalog(async direct => {
        const worker = (await hostWorkerOf(direct, 'a')) ?? assert.fail()
        const input =
          inputOf === 'backup'
            ? { ...backupInput('a', worker), operationId: id, type: 'incremental' as const, parent: needed }
            : { ...restoreInput('a', worker), operationId: id, parents: [needed] }
        await insertOperation(
          direct,
          operation(id, {
            ...{ state: 'running', runId: 'r', connection: 'a', kind: inputOf },
            ...{ backupId: theirs.a.backupId, workflowId: `op/${id}`, input },
          }),
          null,
        )
      })
      assert.equal((await as('a').destination('vault-b')).record.name, 'vault-b')
      assert.equal(await as('a').unwrapDataKey(theirs.b.jwe), theirs.b.dataKey)
      await withCatalog(direct => updateOperation(direct, id, { state: 'succeeded', endedAt: now }))
    })
  }

  test('the table is of every method that there is', () => {
    const none = {} as WorkerCatalog
    assert.deepEqual(Object.keys(guarded({} as never, none, 'a')).sort(), Object.keys(walk).sort())
  })
})
