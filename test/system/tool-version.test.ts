/** Tools and servers of different versions: an older tool is refused before it runs, fitting ones of another PostgreSQL work. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { BackupView, OperationView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { postgresRelinked, type RelinkedPostgres } from '../servers/postgres-relinked.ts'
import { digestPostgres } from '../support/digest.ts'
import { createDatabase, makePostgresSample } from '../support/postgres-sample.ts'
import { expectCleanHost } from './inspect.ts'
import { directory, type Stack, startStack } from './stack.ts'

const server = 17
const name = `ödd "17" --`

describe('a PostgreSQL server newer than the installed tools', () => {
  const made: RelinkedPostgres[] = []
  let tools: RelinkedPostgres
  let postgres: TestPostgres
  /** PATH with tools older than the server: the machine's own, where they are. */
  let olderPath: string
  let olderVersion: string
  const path = process.env.PATH ?? ''

  before(async () => {
    tools = await postgresRelinked(server)
    made.push(tools)
    postgres = await startPostgres({ binaries: tools })
    // The digest asks with pg_dump, too.
    process.env.PATH = `${tools.bin}:${path}`
    await createDatabase(postgres.url(), name)
    await makePostgresSample(postgres.url(name), { rows: 2000, oddities: true })
    olderPath = path
    olderVersion = await pgDumpVersion(olderPath)
    if (Number.parseInt(olderVersion, 10) >= server) {
      const older = await postgresRelinked(15)
      made.push(older)
      olderPath = `${older.bin}:${path}`
      olderVersion = older.version
    }
  })

  after(async () => {
    process.env.PATH = path
    await postgres?.stop()
    for (const one of made) await one.remove()
  })

  async function withTools(search: string, work: (stack: Stack) => Promise<void>): Promise<void> {
    const stack = await startStack({ env: { PATH: search } })
    try {
      await stack.expectOk('POST', '/v1/destinations', {
        name: 'disk',
        uri: await directory(stack, 'disk'),
      })
      await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url(name) })
      await work(stack)
    } finally {
      await stack.stop()
    }
  }

  const backUp = async (stack: Stack, format: string): Promise<OperationView> =>
    await stack.ended((await stack.backup({ connection: 'pg', destinations: ['disk'], format, jobs: 2 })).id)

  test('pg_dump older than the server is refused, with both versions and what to do', async () => {
    await withTools(olderPath, async stack => {
      const ready = await stack.expectOk<{ checks: { code?: string; answer: string }[] }>(
        'POST',
        '/v1/connections/pg/precheck',
        {},
      )
      assert.ok(ready.checks.some(one => one.answer === 'fail' && one.code === 'host.tool-version'))
      for (const format of ['custom', 'directory']) {
        const ended = await backUp(stack, format)
        assert.equal(ended.state, 'failed')
        assert.equal(ended.error?.code, 'host.tool-version')
        assert.ok(ended.error.detail.includes(`pg_dump ${olderVersion}`), ended.error.detail)
        assert.ok(ended.error.detail.includes(postgres.version), ended.error.detail)
        assert.match(ended.error.hint, /client tools|newer/i)
        expectCleanHost(stack.home, ended.id)
      }
      const prefix = join(stack.directory, 'disk', 'pg')
      assert.equal(existsSync(prefix), false, 'nothing was begun')
    })
  })

  test('with its own tools both formats come back equal', async () => {
    await withTools(`${tools.bin}:${path}`, async stack => {
      for (const format of ['custom', 'directory']) {
        const ended = await backUp(stack, format)
        assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
        const backup = await stack.expectOk<BackupView>('GET', `/v1/backups/${ended.backup}`)
        assert.equal(backup.serverVersion.split(' ')[0], postgres.version)
        const database = `back ${format}`
        const restored = await stack.ended(
          (await stack.restore({ backup: ended.backup, target: { connection: 'pg', database } })).id,
        )
        assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
        assert.deepEqual(
          await digestPostgres(postgres.url(database)),
          await digestPostgres(postgres.url(name)),
        )
        for (const id of [ended.id, restored.id]) expectCleanHost(stack.home, id)
      }
    })
  })
})

async function pgDumpVersion(search: string): Promise<string> {
  const env = { ...process.env, PATH: search }
  const { stdout } = await promisify(execFile)('pg_dump', ['--version'], { env })
  return /(\d+\.\d+)/.exec(stdout)?.[1] ?? ''
}
