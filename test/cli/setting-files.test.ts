import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { freePort } from '../../cli/free-port.ts'
import { eventually, holdfast, start } from './run.ts'

describe('settings that stand in files', () => {
  let directory: string
  let env: Record<string, string>
  const port = freePort()

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-files-'))
    const secrets = join(directory, 'secrets')
    await mkdir(secrets)
    const file = async (name: string, text: string) => {
      await writeFile(join(secrets, name), `${text}\n`, { mode: 0o400 })
      return join(secrets, name)
    }
    env = {
      HOLDFAST_HOME: join(directory, 'home'),
      HOLDFAST_API_LISTEN: `127.0.0.1:${await port}`,
      // Nobody listens on the discard port.
      HOLDFAST_TEMPORAL_ADDRESS: '127.0.0.1:9',
      HOLDFAST_SECRET_KEY_FILE: await file('secret-key', 'a secret key of a file'),
      HOLDFAST_TOKEN_FILE: await file('token', 'hf_api_from-a-file-0123456789'),
      HOLDFAST_WORKER_TOKEN_FILE: await file('worker-token', 'hf_worker_from-a-file-0123456789'),
      HOLDFAST_CATALOG_URL_FILE: await file('catalog-url', `sqlite:${join(directory, 'elsewhere.sqlite')}`),
    }
  })
  after(() => rm(directory, { recursive: true, force: true }))

  test('an API takes all of its secrets from files, and makes none of its own', async () => {
    const api = start(['api'], { env })
    try {
      await eventually('the API answers', async () => {
        const answer = await fetch(`http://127.0.0.1:${await port}/healthz`).catch(() => undefined)
        return answer?.ok === true ? true : undefined
      })
      const listed = await holdfast(['connection', 'list', '--json'], { env })
      assert.equal(listed.code, 0, listed.stderr)
      const workers = await fetch(`http://127.0.0.1:${await port}/v1/connections`, {
        headers: { authorization: 'Bearer hf_worker_from-a-file-0123456789' },
      })
      assert.ok(workers.status === 401 || workers.status === 403, 'a worker is known, and is nobody else')
    } finally {
      api.child.kill('SIGTERM')
      await api.ended
    }
    assert.ok((await readdir(directory)).includes('elsewhere.sqlite'))
    const made = await readdir(env.HOLDFAST_HOME ?? '')
    for (const name of ['secret.key', 'api.token', 'worker.token', 'catalog.sqlite']) {
      assert.ok(!made.includes(name), `${name} was made`)
    }
  })

  test('a file that is not there or is empty is said, with its setting', async () => {
    const missing = join(directory, 'missing')
    const gone = await holdfast(['api'], { env: { ...env, HOLDFAST_CATALOG_URL_FILE: missing } })
    assert.equal(gone.code, 2)
    assert.match(gone.stderr, /^error settings\.invalid: HOLDFAST_CATALOG_URL_FILE cannot be read: .*missing/)
    await writeFile(join(directory, 'empty'), '\n')
    const empty = await holdfast(['worker'], {
      env: { ...env, HOLDFAST_TEMPORAL_API_KEY_FILE: join(directory, 'empty') },
    })
    assert.equal(empty.code, 2)
    assert.match(empty.stderr, /HOLDFAST_TEMPORAL_API_KEY_FILE, .*empty, is empty/)
  })
})
