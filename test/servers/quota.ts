/**
 * A directory under a quota that is not the size of its file system: a Btrfs subvolume with a limit. What runs into it is
 * told EDQUOT, and no question for free space shows it. Needs root.
 */
import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface QuotaDirectory {
  limit(mebibytes: number): Promise<void>
  remove(): Promise<void>
}

async function needBtrfs(): Promise<void> {
  const there = await access('/usr/bin/btrfs').then(
    () => true,
    () => false,
  )
  if (there) return
  process.stderr.write('quota: installing btrfs-progs with apt-get\n')
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const wait = ['-o', 'DPkg::Lock::Timeout=120']
  await run('apt-get', [...wait, 'update'], { env }).catch(() => undefined)
  await run('apt-get', [...wait, 'install', '-y', '--no-install-recommends', 'btrfs-progs'], { env })
}

/** Lies at `path`, which is made, and belongs to `user`. */
export async function quotaDirectory(path: string, mebibytes: number, user = 0): Promise<QuotaDirectory> {
  await needBtrfs()
  const own = await mkdtemp(join(tmpdir(), 'holdfast-quota-'))
  const [image, whole] = [join(own, 'image'), join(own, 'whole')]
  const held = join(whole, 'held')
  await writeFile(image, '')
  await truncate(image, 512 * 1024 * 1024)
  await run('mkfs.btrfs', ['-q', image])
  await mkdir(whole)
  await run('mount', ['-o', 'loop', image, whole])
  const limit = async (to: number) => void (await run('btrfs', ['qgroup', 'limit', `${to}M`, held]))
  await run('btrfs', ['quota', 'enable', whole])
  await run('btrfs', ['subvolume', 'create', held])
  await limit(mebibytes)
  await run('chown', [`${user}:${user}`, held])
  await mkdir(path, { recursive: true })
  await run('mount', ['--bind', held, path])
  return {
    limit,
    async remove() {
      await run('umount', ['-l', path])
      await run('umount', ['-l', whole])
      await rm(own, { recursive: true, force: true })
    },
  }
}
