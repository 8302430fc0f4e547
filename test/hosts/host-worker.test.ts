/**
 * A host with a worker of its own is that worker's own machine. So what every host does is done there: by another user without
 * rights, in a network that nobody reaches into.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chown } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { namespace } from '../servers/namespace.ts'
import { scratch } from '../support/temporary.ts'

const run = promisify(execFile)

test('what every host does, where a worker of its own would run', async () => {
  await using place = await scratch()
  const user = (await run('id', ['-u', 'postgres'])).stdout.trim()
  const disk = await place.smallDisk('small', 512)
  for (const path of [place.path, disk]) await chown(path, Number(user), Number(user))
  const network = await namespace()
  try {
    const drop = ['setpriv', '--reuid', user, '--regid', user, '--clear-groups']
    const program = [
      process.execPath,
      '--test',
      '--test-reporter=tap',
      join(import.meta.dirname, 'every-child.ts'),
    ]
    const ended = await run('ip', ['netns', 'exec', network.name, ...drop, ...program], {
      env: {
        PATH: '/usr/local/bin:/usr/bin:/bin',
        HOME: place.path,
        TMPDIR: place.path,
        HOLDFAST_TEST_SMALL_DISK: disk,
      },
      cwd: place.path,
      maxBuffer: 64 * 1024 * 1024,
    }).catch((error: { stdout: string; stderr: string }) => assert.fail(error.stdout + error.stderr))
    assert.match(ended.stdout, /^# pass [1-9]\d/m)
    assert.match(ended.stdout, /^# skipped 0$/m)
  } finally {
    await network.remove()
  }
})
