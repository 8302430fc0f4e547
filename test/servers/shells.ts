/** The shells that completion is tried in; installed with apt-get when we are root and they are missing. */
import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

const isMissing = (shell: string) => spawnSync(shell, ['--version'], { stdio: 'ignore' }).error !== undefined

export async function needShells(...shells: string[]): Promise<void> {
  const missing = shells.filter(isMissing)
  if (missing.length === 0) return
  if (process.getuid?.() === 0) {
    process.stderr.write(`shells: installing ${missing.join(' and ')} with apt-get\n`)
    const wait = ['-o', 'DPkg::Lock::Timeout=120']
    await run('apt-get', [...wait, 'update']).catch(() => undefined)
    await run('apt-get', [...wait, 'install', '-y', '--no-install-recommends', ...missing]).catch(
      () => undefined,
    )
  }
  const still = missing.filter(isMissing)
  if (still.length > 0) {
    throw new Error(`Not installed: ${still.join(', ')} (Debian, Ubuntu: apt install ${still.join(' ')}).`)
  }
}
