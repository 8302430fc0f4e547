/**
 * What a `server` destination asks a machine to do, in the shells and with the tools that servers have. Over SSH, by dash:
 * see server-ssh.test.ts.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { localReach } from '../../hosts/shell.ts'
import type { ServerShell } from '../../storage/server/shell.ts'
import { shells } from '../hosts/support.ts'
import { conformance } from './conformance.ts'
import { serverSubject } from './subjects.ts'

for (const shell of await shells()) {
  if (shell[0] === 'bash') {
    // Given a socket to read from, as Node does, bash would take itself for a remote login and read somebody's settings.
    const { script } = localReach('db', ['bash', '--norc', '--posix'])
    conformance('server directory by bash', () => serverSubject({ name: 'db', script }))
  } else if (shell[1] === 'sh') {
    // Busybox with its own tools, and no others.
    const tools = await mkdtemp(join(tmpdir(), 'holdfast-busybox-'))
    await promisify(execFile)(shell[0], ['--install', '-s', tools])
    after(() => rm(tools, { recursive: true }))
    const reach = localReach('db', shell)
    const script: ServerShell['script'] = (text, words) => reach.script(`PATH=${tools}\n${text}`, words)
    conformance('server directory by busybox', () => serverSubject({ name: 'db', script }))
  }
}

test('a folder is made while somebody prunes empty ones', async () => {
  const root = await mkdtemp(join(tmpdir(), 'holdfast-prune-'))
  after(() => rm(root, { recursive: true }))
  const common = readFileSync(new URL('../../storage/server/sh/common.sh', import.meta.url), 'utf8')
  const contest = `${common}
    (while [ ! -e stop ]; do rmdir busy/folder/1 busy/folder busy 2>/dev/null; done) &
    i=0
    while [ "$i" -lt 60 ]; do
      i=$((i + 1))
      ( n=0; while [ "$n" -lt 50 ]; do n=$((n + 1)); hf_make busy/folder/1; done ) || echo failed
    done
    : >stop
    wait`
  const { stdout, stderr } = await promisify(execFile)('sh', ['-c', contest, 'holdfast', 'put', root])
  assert.equal(stdout, '', stderr)
})
