/** Asking for a restore over what is there, and answering, at the command line. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import { startWorkedApi, type WorkedApi } from '../api/worked.ts'
import { addPerson, awaiting, type Person, planOf } from '../support/people.ts'
import { holdfast } from './run.ts'

describe('approving at the command line', () => {
  let stack: WorkedApi
  let anna: Person
  let path = ''
  let secret = ''
  let env: Record<string, string> = {}

  before(async () => {
    stack = await startWorkedApi()
    anna = await addPerson(stack, 'anna', 'approver')
    const vault = join(stack.directory, 'vault')
    mkdirSync(vault)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: vault })
    path = await stack.api.addSqlite('shop')
    await stack.ended((await stack.backup({ connection: 'shop', destinations: ['vault'] })).id)
    secret = join(stack.directory, 'password')
    await writeFile(secret, `${anna.password}\n`, { mode: 0o600 })
    env = { HOLDFAST_URL: stack.api.api.url, HOLDFAST_TOKEN: anna.token }
  })
  after(() => stack?.stop())
  const run = (args: string[], input?: string) => holdfast(args, { env, ...(input ? { input } : {}) })
  const rows = () => {
    const database = new DatabaseSync(path)
    const count = database.prepare('SELECT count(*) AS n FROM items').get()?.n
    database.close()
    return count
  }
  const asked = async (): Promise<string> => {
    const ended = await run([
      '--json',
      'restore',
      'shop:latest',
      '--target',
      'shop',
      '--database',
      path,
      '--overwrite-existing',
      '--reason',
      'a bad migration',
      '--keep-old',
      '2h',
      '--no-wait',
    ])
    assert.equal(ended.code, 0, ended.stderr)
    const { id } = JSON.parse(ended.stdout) as OperationView
    assert.equal((await awaiting(stack, id)).state, 'awaiting-approval')
    return id
  }

  test('asked for, listed, looked at, approved; the password comes from a file or from standard input', async () => {
    for (const how of ['file', 'stdin'] as const) {
      const database = new DatabaseSync(path)
      database.exec("INSERT INTO items (name) VALUES ('spoilt')")
      database.close()
      const id = await asked()
      const listed = await run(['approvals'])
      assert.match(listed.stdout, new RegExp(`${id}.*anna.*a bad migration`))
      const { digest } = await planOf(stack, id)
      const yes = ['approve', id, '--target-name', path, '--reason', 'looked at it', '--plan-digest', digest]
      const done =
        how === 'file'
          ? await run([...yes, '--secret-file', secret])
          : await run([...yes, '--secret-prompt'], `${anna.password}\n`)
      assert.equal(done.code, 0, done.stderr)
      assert.match(done.stdout, /This replaces:\n.*its content is replaced/)
      assert.match(done.stdout, /because +a bad migration/)
      assert.equal(rows(), 1)
      assert.doesNotMatch(done.stdout + done.stderr, new RegExp(anna.password))
    }
  })

  test('what is missing is asked of nobody; wrong answers are refused with exit code 3', async () => {
    const id = await asked()
    const { digest } = await planOf(stack, id)
    const bare = await run(['approve', id])
    assert.deepEqual([bare.code, /--plan-digest is missing/.test(bare.stderr)], [2, true])
    const yes = (name: string) => [
      'approve',
      id,
      '--target-name',
      name,
      '--reason',
      'x',
      '--plan-digest',
      digest,
      '--secret-file',
      secret,
    ]
    const wrong = await run(yes('/somewhere/else.db'))
    assert.deepEqual([wrong.code, /error approval\.name/.test(wrong.stderr)], [3, true])
    const rejected = await run(['reject', id, '--reason', 'wrong night'])
    assert.equal(rejected.code, 0, rejected.stderr)
    assert.equal((await stack.ended(id)).error?.code, 'approval.rejected')
    const policy = await holdfast(['connection', 'policy', 'shop', '--two-person', 'yes'], {
      env: { ...env, HOLDFAST_TOKEN: stack.api.token },
    })
    assert.match(policy.stdout, /two people/)
    const own = await asked()
    const plan = await planOf(stack, own)
    const refused = await run([
      'approve',
      own,
      '--target-name',
      path,
      '--reason',
      'x',
      '--plan-digest',
      plan.digest,
      '--secret-file',
      secret,
    ])
    assert.match(refused.stderr, /error approval\.second-person/)
    const night = await run([
      'approve',
      own,
      '--target-name',
      path,
      '--reason',
      'x',
      '--plan-digest',
      plan.digest,
      '--secret-file',
      secret,
      '--break-glass',
    ])
    assert.equal(night.code, 0, night.stderr)
  })
})
