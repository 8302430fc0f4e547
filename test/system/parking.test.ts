/** Parked: what needs an operator waits for one, keeps what it has done, and goes on at the same step. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import type { OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { holdfast } from '../cli/run.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { addPerson, approve, askFor, awaiting } from '../support/people.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectNoBackup, expectOneBackup } from './inspect.ts'
import { eventually, type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

const password = 'kq7-Vm2-xt'

describe('parking', () => {
  let stack: Stack
  let worker: Process
  let store: Versitygw
  let front: Interceptor
  let destination: Destination
  let postgres: TestPostgres
  let temporal: Connection
  let events = ''
  let source = ''
  const mounts: string[] = []

  before(async () => {
    stack = await startStack({ worker: false })
    events = join(stack.directory, 'events')
    const program = join(stack.directory, 'notify')
    await writeFile(program, `#!/bin/sh\nenv >> ${events}.env\ncat >> ${events}\n`)
    await chmod(program, 0o755)
    await writeFile(events, '')
    worker = stack.startWorker({ HOLDFAST_NOTIFY_COMMAND: program })
    ;({ store, front, destination } = await startVault(stack, 'parking'))
    source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 26)
    await stack.expectOk('POST', '/v1/connections', { name: 'copied', url: `sqlite:${source}` })
    postgres = await startPostgres({ auth: 'scram', password })
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 4)
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    temporal = await Connection.connect({ address: stack.temporal.address })
  })

  after(async () => {
    for (const path of mounts) execFileSync('umount', ['-l', path])
    await temporal?.close()
    await stack?.stop()
    await front?.close()
    await postgres?.stop()
    await destination?.close()
    await store?.stop()
  })

  const restartWorker = async (): Promise<void> => {
    await worker.kill9()
    worker = stack.startWorker()
  }

  const isPart = (connection: string) => (method: string, url: string) =>
    method === 'PUT' && url.includes(`/${connection}/backups/`) && url.includes('partNumber=2&')

  const denied = '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
  /** The store refuses the second part until it is told otherwise. */
  const refuseParts = (connection: string): { mend(): void } => {
    let broken = true
    const matches = isPart(connection)
    front.answer((method, url) => broken && matches(method, url), 403, denied, Number.POSITIVE_INFINITY)
    return {
      mend() {
        broken = false
      },
    }
  }

  const parkedUpload = async (connection: string, body: Record<string, unknown> = {}) => {
    const trouble = refuseParts(connection)
    const operation = await stack.backup({ connection, destinations: ['vault'], ...body })
    const parked = await stack.parked(operation.id)
    assert.equal(parked.error?.code, 'destination.denied', JSON.stringify(parked.error))
    return { parked, trouble }
  }

  const succeeded = async (id: string): Promise<OperationView> => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    expectCleanHost(stack.home, id)
    return view
  }

  test('staged data is kept; the command line says what to do, ends with 6 and goes on from there', async () => {
    const trouble = refuseParts('copied')
    const cli = (...args: string[]) => holdfast(args, { env: { ...stack.env, HOLDFAST_URL: stack.apiUrl } })
    const first = await cli('backup', 'copied', '--to', 'vault')
    assert.equal(first.code, 6, first.stdout + first.stderr)
    const id = /holdfast operation resume (op-\w+)/.exec(first.stdout)?.[1] ?? ''
    assert.match(first.stderr, /error destination\.denied: /)
    assert.match(first.stderr, /hint: /)
    const staged = join(stack.home, 'staging', 'data', id, 'database.sqlite')
    const { ino, mtimeMs } = await stat(staged)

    const again = await cli('operation', 'resume', id)
    assert.equal(again.code, 6, 'not mended: parked again')
    const kept = await stat(staged)
    assert.deepEqual([kept.ino, kept.mtimeMs], [ino, mtimeMs], 'the tool did not run again')

    trouble.mend()
    const last = await cli('operation', 'resume', id)
    assert.equal(last.code, 0, last.stdout + last.stderr)
    const view = await succeeded(id)
    await expectOneBackup(destination, 'copied', view.backup)
  })

  test('whoever is to be told is told, without secrets, and a deaf one does no harm', async () => {
    await writeFile(events, '')
    const { parked, trouble } = await parkedUpload('copied')
    const told = await eventually('the program was run', async () => {
      const text = await readFile(events, 'utf8')
      return text === '' ? undefined : (JSON.parse(text) as Record<string, unknown>)
    })
    assert.equal(told.event, 'operation.parked')
    assert.equal(told.operation, parked.id)
    assert.deepEqual(told.error, parked.error)
    const environment = await readFile(`${events}.env`, 'utf8')
    assert.doesNotMatch(environment, /TOKEN|SECRET|KEY/i)
    trouble.mend()
    await stack.resume(parked.id)
    await succeeded(parked.id)

    await worker.terminate()
    worker = stack.startWorker({ HOLDFAST_NOTIFY_COMMAND: '/bin/false' })
    const second = await parkedUpload('copied')
    second.trouble.mend()
    await stack.resume(second.parked.id)
    await succeeded(second.parked.id)
  })

  test('worker, API and workflow are killed and reset while it is parked', async () => {
    const { parked, trouble } = await parkedUpload('copied')
    await restartWorker()
    await stack.api.kill9()
    await stack.restartApi()
    assert.equal((await stack.operation(parked.id)).state, 'parked')
    const client = new Client({ connection: temporal })
    const handle = client.workflow.getHandle(parked.workflowId, parked.runId ?? undefined)
    const { events: history } = await handle.fetchHistory()
    const task = history?.findLast(event => event.workflowTaskCompletedEventAttributes)
    await client.workflowService.resetWorkflowExecution({
      namespace: 'default',
      workflowExecution: { workflowId: parked.workflowId, runId: parked.runId },
      workflowTaskFinishEventId: task?.eventId ?? null,
      requestId: 'reset-while-parked',
      reason: 'test',
    })
    trouble.mend()
    await eventually('the row follows the new run', async () =>
      (await stack.operation(parked.id)).runId === parked.runId ? undefined : true,
    )
    // Which point the reset went back to is Temporal's: it may have gone on by itself.
    await eventually('it goes on', async () => {
      const view = await stack.operation(parked.id)
      if (view.state === 'parked') await stack.resume(parked.id)
      return view.state === 'succeeded' ? true : undefined
    })
    const view = await succeeded(parked.id)
    await expectOneBackup(destination, 'copied', view.backup)
  })

  test("Temporal's own tool may resume it; its UI shows what is wrong", async () => {
    const { parked, trouble } = await parkedUpload('copied')
    const client = new Client({ connection: temporal })
    const handle = client.workflow.getHandle(parked.workflowId, parked.runId ?? undefined)
    const metadata = await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata')
    assert.match(metadata.currentDetails ?? '', /parked/)
    assert.match(metadata.currentDetails ?? '', /destination\.denied/)
    assert.match(metadata.currentDetails ?? '', /^\| ✓ \| Staging can be written and has room \| .* GB free/m)
    const description = await handle.describe()
    assert.deepEqual(description.searchAttributes.HoldfastState, ['parked'])
    trouble.mend()
    await handle.signal('resume')
    await succeeded(parked.id)
  })

  test('cancelled while parked, by us or by a signal with a reason: nothing is left', async () => {
    for (const by of ['api', 'signal']) {
      const { parked, trouble } = await parkedUpload('copied')
      if (by === 'api') await stack.expectOk('POST', `/v1/operations/${parked.id}/cancel`)
      else {
        const client = new Client({ connection: temporal })
        await client.workflow.getHandle(parked.workflowId).signal('cancel', 'we need the server')
      }
      const view = await stack.ended(parked.id)
      assert.equal(view.state, 'cancelled')
      assert.equal(view.error?.code, 'operation.cancelled')
      if (by === 'signal') assert.equal(view.error.detail, 'we need the server')
      expectCleanHost(stack.home, parked.id)
      await expectNoBackup(destination, 'copied', view.backup)
      trouble.mend()
    }
  })

  test('nobody comes: it ends as failed, with the error, and nothing is left', async () => {
    await stack.api.kill9()
    await stack.restartApi({ HOLDFAST_PARK_SECONDS: '3' })
    const { parked, trouble } = await parkedUpload('copied')
    const view = await stack.ended(parked.id)
    assert.equal(view.state, 'failed')
    assert.equal(view.error?.code, 'destination.denied')
    assert.match(view.error.detail, /Nobody resumed the operation within 3 seconds/)
    expectCleanHost(stack.home, parked.id)
    await expectNoBackup(destination, 'copied', view.backup)
    trouble.mend()
    await stack.api.kill9()
    await stack.restartApi()
  })

  test('unattended, it parks before its work has begun; otherwise it ends at once', async () => {
    await postgres.sql("ALTER ROLE postgres PASSWORD 'changed'")
    const asked = { connection: 'pg', destinations: ['vault'] }
    const attended = await stack.ended((await stack.backup(asked)).id)
    assert.equal(attended.state, 'failed')
    assert.equal(attended.error?.code, 'database.authentication')
    const unattended = await stack.backup({ ...asked, unattended: true })
    const parked = await stack.parked(unattended.id)
    assert.equal(parked.error?.code, 'database.authentication')
    const changed = postgres.url().replace(password, 'changed')
    execFileSync('psql', ['-X', '-q', '-c', `ALTER ROLE postgres PASSWORD '${password}'`, changed])
    await stack.resume(unattended.id)
    await expectOneBackup(destination, 'pg', (await succeeded(unattended.id)).backup)
  })

  test('a privilege that was granted meanwhile is seen', async () => {
    await postgres.sql(`CREATE ROLE reader LOGIN PASSWORD '${password}'`)
    const url = postgres.url('shop').replace('//postgres:', '//reader:').replace('//postgres@', '//reader@')
    await stack.expectOk('POST', '/v1/connections', { name: 'reader', url })
    const operation = await stack.backup({ connection: 'reader', destinations: ['vault'], unattended: true })
    assert.equal((await stack.parked(operation.id)).error?.code, 'database.privilege')
    await postgres.sql('GRANT pg_read_all_data TO reader')
    await stack.resume(operation.id)
    await succeeded(operation.id)
  })

  test('verify and restore, and a commit that is refused', async () => {
    const made = await succeeded((await stack.backup({ connection: 'copied', destinations: ['vault'] })).id)
    const refuse = (matches: (method: string, url: string) => boolean) => {
      let broken = true
      front.answer((method, url) => broken && matches(method, url), 403, denied, Number.POSITIVE_INFINITY)
      return () => {
        broken = false
      }
    }
    const isArtifact = (method: string, url: string) => method === 'GET' && url.includes('.zst')
    let mend = refuse(isArtifact)
    const { operation: verify } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      `/v1/backups/${made.backup}/verify`,
      { level: 'checksum' },
    )
    assert.equal((await stack.parked(verify.id)).error?.code, 'destination.denied')
    mend()
    await stack.resume(verify.id)
    await succeeded(verify.id)

    mend = refuse(isArtifact)
    const target = join(stack.directory, 'back.db')
    const restore = await stack.restore({
      backup: made.backup,
      target: { connection: 'copied', database: target },
    })
    assert.equal((await stack.parked(restore.id)).error?.code, 'destination.denied')
    mend()
    await stack.resume(restore.id)
    await succeeded(restore.id)
    assert.ok((await stat(target)).size > 20e6)

    mend = refuse((method, url) => method === 'PUT' && url.includes('manifest.json'))
    const committing = await stack.backup({ connection: 'copied', destinations: ['vault'] })
    assert.equal((await stack.parked(committing.id)).error?.code, 'destination.denied')
    mend()
    await stack.resume(committing.id)
    await expectOneBackup(destination, 'copied', (await succeeded(committing.id)).backup)

    mend = refuse((method, url) => method === 'PUT' && url.includes('manifest.json'))
    const unwanted = await stack.backup({ connection: 'copied', destinations: ['vault'] })
    await stack.parked(unwanted.id)
    await stack.expectOk('POST', `/v1/operations/${unwanted.id}/cancel`)
    const view = await stack.ended(unwanted.id)
    assert.equal(view.state, 'cancelled', 'a commit that was parked can still be given up')
    await expectNoBackup(destination, 'copied', view.backup)
    mend()
  })

  test('a second person who was waived is announced, and the restore does not mind that it cannot be', async () => {
    const path = join(stack.directory, 'guarded.db')
    makeRandomSqlite(path, 1)
    await stack.expectOk('POST', '/v1/connections', { name: 'guarded', url: `sqlite:${path}` })
    await stack.expectOk('POST', '/v1/connections/guarded/policy', { twoPerson: true })
    await succeeded((await stack.backup({ connection: 'guarded', destinations: ['vault'] })).id)
    const anna = await addPerson(stack, 'anna', 'approver')
    const replaced = async () => {
      const target = { connection: 'guarded', database: path }
      const { body } = await askFor(anna, { backup: 'guarded:latest', target })
      const { id } = body.operation
      await awaiting(stack, id)
      assert.equal((await approve(stack, anna, id)).body.code, 'approval.second-person')
      const yes = await approve(stack, anna, id, { breakGlass: true, reason: 'nobody else is awake' })
      assert.equal(yes.status, 202, JSON.stringify(yes.body))
      return await succeeded(id)
    }
    await worker.kill9()
    worker = stack.startWorker({ HOLDFAST_NOTIFY_COMMAND: join(stack.directory, 'notify') })
    await writeFile(events, '')
    const { id } = await replaced()
    const told = (await readFile(events, 'utf8')).trim().split('\n')
    assert.deepEqual(
      told.map(line => JSON.parse(line) as unknown),
      [
        {
          event: 'approval.break-glass',
          operation: id,
          title: `restore ${(await stack.operation(id)).backup} → guarded: ${path}`,
          by: 'anna',
          reason: 'nobody else is awake',
        },
      ],
    )
    assert.ok(!(await readFile(events, 'utf8')).includes(anna.password))

    await worker.kill9()
    worker = stack.startWorker({ HOLDFAST_NOTIFY_COMMAND: '/bin/false' })
    const again = await replaced()
    const log = await eventually('the log says so', async () => {
      const { items } = await stack.expectOk<{ items: { source: string; text: string }[] }>(
        'GET',
        `/v1/operations/${again.id}/log`,
      )
      return items.find(entry => entry.source === 'notification')
    })
    assert.match(log.text, /approval\.break-glass by \/bin\/false: it exited with 1/)
    await restartWorker()
  })

  test('a restore whose disk is full while it loads goes on when there is room', async () => {
    const small = join(stack.directory, 'small-target')
    await mkdir(small)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'holdfast-test', small])
    mounts.push(small)
    const made = await succeeded((await stack.backup({ connection: 'copied', destinations: ['vault'] })).id)
    const held = front.hold('before', (method, url) => method === 'GET' && url.includes('.zst'))
    const restore = await stack.restore({
      backup: made.backup,
      target: { connection: 'copied', database: join(small, 'back.db') },
    })
    await held.reached
    // Somebody else takes the room after the check.
    await writeFile(join(small, 'others'), Buffer.alloc(30 << 20))
    held.release()
    assert.equal((await stack.parked(restore.id)).error?.code, 'restore.target-full')
    execFileSync('rm', [join(small, 'others')])
    await stack.resume(restore.id)
    await succeeded(restore.id)
    assert.ok((await stat(join(small, 'back.db'))).size > 20e6)
  })

  test('what has ended, and what is not there, is neither paused nor resumed', async () => {
    const ended = await succeeded((await stack.backup({ connection: 'copied', destinations: ['vault'] })).id)
    for (const verb of ['pause', 'resume']) {
      const refused = await stack.refused('POST', `/v1/operations/${ended.id}/${verb}`)
      assert.equal(refused.status, 409)
      assert.equal(refused.body.code, 'operation.state')
      assert.equal((await stack.refused('POST', `/v1/operations/op-none1234/${verb}`)).status, 404)
    }
  })
})
