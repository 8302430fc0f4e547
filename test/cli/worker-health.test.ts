/** A worker that was installed alone, run as its unit says; and whether it is well, asked from beside it. */
import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { makeShop } from '../support/shop.ts'
import { directory, type Stack, startStack } from '../system/stack.ts'
import { eventually, holdfast, start } from './run.ts'

interface Health {
  healthy: boolean
  checks: { name: string; ok: boolean; detail: string }[]
}

describe('a worker alone', () => {
  let stack: Stack
  let root = ''
  let env: Record<string, string> = {}

  before(async () => {
    stack = await startStack({ worker: false })
    root = await mkdtemp(join(tmpdir(), 'holdfast-worker-'))
    const installed = await holdfast(['install', '--root', root, '--part', 'worker'], {
      env: {
        HOLDFAST_TEMPORAL_ADDRESS: stack.temporal.address,
        HOLDFAST_URL: stack.apiUrl,
        HOLDFAST_WORKER_TOKEN_FILE: join(stack.home, 'worker.token'),
      },
    })
    assert.equal(installed.code, 0, installed.stderr)
  })
  after(async () => {
    await stack?.stop()
    await rm(root, { recursive: true, force: true })
  })

  /** What systemd would do, but for the fences: environment, credentials, the file, the command. */
  const asTheUnitSays = async () => {
    const text = await readFile(join(root, 'etc/systemd/system/holdfast-worker.service'), 'utf8')
    const said: Record<string, string> = {}
    for (const [, line = ''] of text.matchAll(/^Environment=(.*)$/gm)) {
      for (const pair of line.split(' ')) said[pair.replace(/=.*/, '')] = pair.replace(/^[^=]*=/, '')
    }
    for (const [, name = '', path = ''] of text.matchAll(/^LoadCredential=([^:]+):(.*)$/gm)) {
      const there = join(root, 'run/credentials/holdfast-worker.service', name)
      await mkdir(join(there, '..'), { recursive: true })
      await cp(join(root, path), there)
    }
    const file = await readFile(join(root, 'etc/holdfast/holdfast.env'), 'utf8')
    for (const [, name = '', value = ''] of file.matchAll(/^(HOLDFAST_\w+)=(.*)$/gm)) said[name] = value
    for (const [name, value] of Object.entries(said)) {
      if (value.startsWith('/')) said[name] = join(root, value.replace('%n', 'holdfast-worker.service'))
    }
    await mkdir(said.TMPDIR ?? '', { recursive: true })
    const [, program = '', args = ''] = /^ExecStart=(\S+) (.*)$/m.exec(text) ?? []
    return { program, args: args.split(' '), env: said }
  }
  const health = async (changes: Record<string, string> = {}) => {
    const asked = await holdfast(['worker', '--health', '--json'], { env: { ...env, ...changes } })
    const answer = JSON.parse(asked.stdout) as Health
    assert.equal(asked.code, answer.healthy ? 0 : 1, asked.stderr)
    return answer.checks.filter(({ ok }) => !ok).map(({ name }) => name)
  }

  test('it is not well before it runs; it is when it asks for work; it works', async () => {
    const unit = await asTheUnitSays()
    env = unit.env
    assert.deepEqual(await health(), ['machine', 'temporal'])
    const worker = start(unit.args, { program: unit.program, env })
    try {
      await eventually('it is well', async () => ((await health()).length === 0 ? true : undefined))
      const people = await holdfast(['worker', '--health'], { env })
      assert.match(people.stdout, /^pass {2}machine: .*\npass {2}temporal: .* asks for work\npass {2}api: /)

      const path = join(stack.directory, 'shop.db')
      makeShop(path, { rows: 100 })
      await stack.expectOk('POST', '/v1/destinations', {
        name: 'vault',
        uri: await directory(stack, 'vault'),
      })
      await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: `sqlite:${path}` })
      const { id } = await stack.backup({ connection: 'shop', destinations: ['vault'] })
      assert.equal((await stack.ended(id)).state, 'succeeded')

      // Others may be well: it is this machine's worker that is asked for.
      const elsewhere = await directory(stack, 'elsewhere')
      await writeFile(join(elsewhere, 'machine.id'), 'ABCDEFGHJKLMNPQR\n')
      assert.deepEqual(await health({ HOLDFAST_TEMP_DIR: elsewhere }), ['temporal'])
      const token = join(stack.directory, 'wrong.token')
      await writeFile(token, 'hf_worker_of_somebody_else\n')
      assert.deepEqual(await health({ HOLDFAST_WORKER_TOKEN_FILE: token }), ['api'])
      await stack.api.kill9()
      assert.deepEqual(await health(), ['api'])
      await stack.temporal.kill9()
      assert.deepEqual(await health(), ['temporal', 'api'])
    } finally {
      worker.child.kill('SIGKILL')
      await worker.ended
    }
  })
})
