/**
 * The kill matrix of backups. Many backups are stopped at once, each at another instant between a request and its answer;
 * then every worker is killed with -9, and again at the same instants in the next round. Afterwards: each is exactly one
 * valid backup, and nothing else is left anywhere.
 */
import assert from 'node:assert/strict'
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { type Held, type Interceptor, type Moment, startInterceptor } from '../servers/interceptor.ts'
import { startVersitygw } from '../servers/versitygw.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectOneBackup } from './inspect.ts'
import { type Process, type Stack, s3Input, startStack } from './stack.ts'

interface Point {
  name: string
  moment: Moment
  matches: (connection: string) => (method: string, url: string) => boolean
}

const s3 =
  (test: (method: string, url: string) => boolean) => (connection: string) => (method: string, url: string) =>
    decodeURIComponent(url).includes(`/${connection}/backups/`) && test(method, url)

const isPart = (number: number) =>
  s3((method, url) => method === 'PUT' && url.includes(`partNumber=${number}&`))
const isOpen = s3((method, url) => method === 'POST' && /[?&]uploads(=|&|$)/.test(url))
const isComplete = s3((method, url) => method === 'POST' && url.includes('uploadId='))
const isPut = (name: string) => s3((method, url) => method === 'PUT' && url.includes(`/${name}`))

const points: Point[] = [
  { name: 'upload opened, answer lost', moment: 'after', matches: isOpen },
  { name: 'part 2 on its way', moment: 'before', matches: isPart(2) },
  { name: 'part 2 stored, answer lost', moment: 'after', matches: isPart(2) },
  { name: 'complete on its way', moment: 'before', matches: isComplete },
  { name: 'complete on its way, arrives late', moment: 'late', matches: isComplete },
  { name: 'completed, answer lost', moment: 'after', matches: isComplete },
  { name: 'keys stored, answer lost', moment: 'after', matches: isPut('keys-1.json') },
  { name: 'manifest on its way', moment: 'before', matches: isPut('manifest.json') },
  { name: 'manifest on its way, arrives late', moment: 'late', matches: isPut('manifest.json') },
  { name: 'manifest stored, answer lost', moment: 'after', matches: isPut('manifest.json') },
]

for (const { shape, format } of [
  { shape: 'staged', format: 'copy' },
  { shape: 'streamed', format: 'dump' },
] as const) {
  describe(`kill -9 in a ${shape} backup to S3`, () => {
    let stack: Stack
    let store: Awaited<ReturnType<typeof startVersitygw>>
    let front: Interceptor
    let destination: Destination
    let worker: Process
    let source = ''

    before(async () => {
      stack = await startStack()
      store = await startVersitygw()
      front = await startInterceptor(store.endpoint)
      destination = await openDestination(store.destinationRecord('matrix'), store.secrets)
      source = join(stack.directory, 'source.db')
      makeRandomSqlite(source, 26)
      await mkdir(join(stack.directory, 'databases'))
      await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'vault', 'matrix', front.url))
      assert.ok(stack.worker)
      worker = stack.worker
    })

    after(async () => {
      await stack?.stop()
      await front?.close()
      await destination?.close()
      await store?.stop()
    })

    test('the worker is killed at every instant, twice: one valid backup, nothing left', async () => {
      const runs = await Promise.all(
        points.map(async (point, index) => {
          const connection = `${shape}-${index}`
          const path = join(stack.directory, 'databases', `${connection}.db`)
          await copyFile(source, path)
          await stack.expectOk('POST', '/v1/connections', {
            name: connection,
            url: `sqlite:${path}`,
            method: format === 'dump' ? 'logical' : 'physical',
          })
          return {
            point,
            connection,
            path,
            held: [] as Held[],
            operation: undefined as OperationView | undefined,
          }
        }),
      )
      for (const round of [1, 2]) {
        const ended = new Set<string>()
        await Promise.all(
          runs.map(async run => {
            const held = front.hold(run.point.moment, run.point.matches(run.connection))
            run.held.push(held)
            run.operation ??= await stack.backup({
              connection: run.connection,
              destinations: ['vault'],
              format,
            })
            const { id } = run.operation
            // In the second round an instant may not come again: what was done is not done twice.
            await Promise.race([held.reached, stack.ended(id, 240).then(() => ended.add(run.connection))])
          }),
        )
        if (round === 1)
          assert.deepEqual(
            runs.filter(run => ended.has(run.connection)).map(run => run.point.name),
            [],
            'in the first round every instant is met',
          )
        await worker.kill9()
        worker = stack.startWorker()
        for (const { point, held } of runs) if (point.moment !== 'late') held.at(-1)?.cut()
      }
      const views = await Promise.all(runs.map(run => stack.ended(run.operation?.id ?? '', 240)))
      // What was on its way all the time arrives now, after everything is over.
      for (const run of runs) for (const held of run.held) held.release()
      for (const [index, run] of runs.entries()) {
        const view = views[index]
        assert.equal(view?.state, 'succeeded', `${run.point.name}: ${JSON.stringify(view?.error)}`)
        await expectOneBackup(destination, run.connection, view.backup)
        expectCleanHost(stack.home, view.id)
        const listed = await stack.backups(run.connection)
        assert.deepEqual(
          listed.map(backup => backup.id),
          [view.backup],
          run.point.name,
        )
      }
    })

    test('the API, then Temporal are killed at every instant: one valid backup, nothing left', async () => {
      const runs = await Promise.all(
        points
          .filter(point => point.moment !== 'late')
          .map(async (point, index) => {
            const connection = `${shape}-services-${index}`
            const path = join(stack.directory, 'databases', `${connection}.db`)
            await copyFile(source, path)
            const method = format === 'dump' ? 'logical' : 'physical'
            await stack.expectOk('POST', '/v1/connections', {
              name: connection,
              url: `sqlite:${path}`,
              method,
            })
            const held = front.hold(point.moment, point.matches(connection))
            const operation = await stack.backup({ connection, destinations: ['vault'], format })
            await held.reached
            return { point, connection, held, operation }
          }),
      )
      await stack.api.kill9()
      await stack.restartApi()
      await stack.temporal.kill9()
      await stack.temporal.restart()
      for (const { held } of runs) held.release()
      for (const { point, connection, operation } of runs) {
        const view = await stack.ended(operation.id, 240)
        assert.equal(view.state, 'succeeded', `${point.name}: ${JSON.stringify(view.error)}`)
        await expectOneBackup(destination, connection, view.backup)
        expectCleanHost(stack.home, view.id)
        assert.equal((await stack.backups(connection)).length, 1)
      }
    })

    test('each of them can be read whole and restored', async () => {
      const expected = digestSqlite(source)
      for (const index of points.keys()) {
        const connection = `${shape}-${index}`
        const [backup] = await stack.backups(connection)
        assert.ok(backup)
        const target = join(stack.directory, 'databases', `restored-${connection}.db`)
        const operation = await stack.restore({ backup: backup.id, target: { connection, database: target } })
        const view = await stack.ended(operation.id)
        assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
        assert.deepEqual(digestSqlite(target), expected)
        expectCleanHost(stack.home, view.id)
      }
    })
  })
}
