/** Schemathesis makes up requests from /openapi.json, right ones and wrong ones: no answer but those that are described. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { pythonWith } from '../servers/python.ts'
import { startTemporal } from '../servers/temporal.ts'
import { startTestApi } from './support.ts'

const folder = join(import.meta.dirname, 'schemathesis')

async function schemathesis(args: string[], env: Record<string, string>, cwd: string) {
  const python = await pythonWith('schemathesis', join(folder, 'requirements.txt'))
  const all = [
    '-m',
    'schemathesis.cli',
    '--config-file',
    join(folder, 'schemathesis.toml'),
    '--no-color',
    ...args,
  ]
  const child = spawn(python, all, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  return { code, output }
}

test('every answer to made-up requests is one that is described, and none is an error of ours', async () => {
  const temporal = await startTemporal()
  const t = await startTestApi({ temporal: temporal.address })
  const place = await mkdtemp(join(tmpdir(), 'holdfast-schemathesis-'))
  try {
    await t.addSqlite('database')
    await t.addDestination('vault')
    await mkdir(join(place, 'destination'))
    await t.call('POST', '/v1/keys', { name: 'default' })
    await t.call('POST', '/v1/backups', { connection: 'database' })
    const { code, output } = await schemathesis(
      [
        'run',
        `${t.api.url}/openapi.json`,
        ...['--header', `Authorization: Bearer ${t.token}`],
        // What is described as valid may still name things that are not there.
        ...['--checks', 'all', '--exclude-checks', 'positive_data_acceptance'],
        // A stream that goes on until its operation ends; it has tests of its own.
        ...['--exclude-path', '/v1/operations/{id}/events'],
        // The same requests each time: what fails here fails for everybody. One worker: two threads that parse at once
        // end CPython 3.11 with "AST constructor recursion depth mismatch".
        ...['--seed', '1', '--max-examples', '15', '--no-shrink', '--workers', '1'],
        '--continue-on-failure',
      ],
      {
        SCHEMATHESIS_HOOKS: join(folder, 'hooks.py'),
        HOLDFAST_TEST_PLACE: place,
        HOLDFAST_TEST_DATABASE: join(t.home, 'database.db'),
      },
      place,
    )
    assert.equal(code, 0, output.slice(-8000))
    const tested = /Tested: (\d+)/.exec(output)?.[1]
    assert.ok(Number(tested) >= 40, output.slice(-2000))
    assert.doesNotMatch(t.log(), /unexpected error|could not be written/)
    const { body } = await t.call<{ brokenAt: number | null; rows: number }>('GET', '/v1/audit/check')
    assert.equal(body.brokenAt, null)
    assert.ok(body.rows > 300, `${body.rows} rows`)
  } finally {
    await t.stop()
    await temporal.stop()
    await rm(place, { recursive: true, force: true })
  }
})
