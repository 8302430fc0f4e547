/** The user's cache of programs that tests need: by version, shared by every clone on the machine. */
import { randomBytes } from 'node:crypto'
import { access, link, readFile, unlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export const toolsDirectory = join(
  process.env.XDG_CACHE_HOME || join(homedir(), '.cache'),
  'holdfast',
  'tools',
)

/** The lock is a file that holds its owner's pid; an owner that is gone holds nothing. */
export async function locked(path: string, act: () => Promise<void>): Promise<void> {
  const mine = `${path}.${randomBytes(6).toString('hex')}`
  await writeFile(mine, String(process.pid))
  try {
    while (!(await linked(mine, path))) {
      const owner = Number(await readFile(path, 'utf8').catch(() => '0'))
      if (owner > 0 && !lives(owner)) await unlink(path).catch(() => {})
      else await sleep(200)
    }
    try {
      await act()
    } finally {
      await unlink(path)
    }
  } finally {
    await unlink(mine)
  }
}

const linked = (from: string, to: string): Promise<boolean> =>
  link(from, to).then(
    () => true,
    () => false,
  )

export const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
