/** Scratch directories of tests, removed at the end; small file systems that fill up. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

export interface Scratch extends AsyncDisposable {
  /** Real path. */
  readonly path: string
  /** A tmpfs of this size; needs root, or one that somebody with root made (HOLDFAST_TEST_SMALL_DISK). */
  smallDisk(name: string, kibibytes: number): Promise<string>
}

export async function scratch(): Promise<Scratch> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'holdfast-test-')))
  const mounts: string[] = []
  return {
    path,
    async smallDisk(name, kibibytes) {
      const given = process.env.HOLDFAST_TEST_SMALL_DISK
      if (given !== undefined) return given
      const directory = join(path, name)
      await mkdir(directory)
      await promisify(execFile)('mount', ['-t', 'tmpfs', '-o', `size=${kibibytes}k`, 'tmpfs', directory])
      mounts.push(directory)
      return directory
    },
    async [Symbol.asyncDispose]() {
      for (const directory of mounts) await promisify(execFile)('umount', ['-l', directory])
      await rm(path, { recursive: true, force: true })
    },
  }
}
