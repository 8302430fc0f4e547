/** Another time for a program and all that it starts: libfaketime. What is waited for takes as long as ever. */
import { execFile } from 'node:child_process'
import { globSync } from 'node:fs'
import { promisify } from 'node:util'

/** `offset`: as in `-1h`. Installs it with apt-get when we are root and it is missing. */
export async function otherTime(offset: string): Promise<Record<string, string>> {
  const find = () => globSync('/usr/lib/*/faketime/libfaketime.so.1')[0]
  if (find() === undefined && process.getuid?.() === 0) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    const args = ['install', '-y', '--no-install-recommends', 'libfaketime']
    await promisify(execFile)('apt-get', args, { env }).catch(() => undefined)
  }
  const library = find()
  if (library === undefined)
    throw new Error('libfaketime is not installed (Debian: apt install libfaketime).')
  return { LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: '1', NO_FAKE_STAT: '1' }
}
