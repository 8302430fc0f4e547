/** What a host is asked when somebody wants to know whether jobs can run there. */
import type { Host } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import type { CheckResult } from '../model/types.ts'
import { attempt, writableCheck } from './checks.ts'

const needed = ['cat', 'dd', 'find', 'head', 'mkfifo', 'stat', 'sync', 'tail', 'truncate', 'wc'] as const

/**
 * Can it be reached, and is there what jobs need? The first that fails ends it: what comes after would fail for the same reason.
 */
export async function hostChecks(open: () => Promise<Host>, login: string): Promise<CheckResult[]> {
  const host = await open()
  const checks = [
    await attempt('host.login', login, async () => {
      await host.files.stat('/')
      return 'A shell answers.'
    }),
  ]
  if (failed(checks)) return checks
  checks.push(await writableCheck(host, 'host.staging'))
  if (failed(checks)) return checks
  checks.push(
    await attempt('host.tools', 'What jobs need is installed', async () => {
      for (const program of needed) {
        if (await host.tool(program)) continue
        throw new HoldfastError('host.tool-missing', `"${program}" was not found on host "${host.name}".`)
      }
      return needed.join(', ')
    }),
  )
  return checks
}

/** The same over SSH, where what is read should be small before it crosses the link. */
export async function sshHostChecks(open: () => Promise<Host>, login: string): Promise<CheckResult[]> {
  const checks = await hostChecks(open, login)
  return failed(checks) ? checks : [...checks, await compressorCheck(await open())]
}

async function compressorCheck(host: Host): Promise<CheckResult> {
  const zstd = await host.tool('zstd', ['-V'])
  const compressor = (zstd && (await host.tool('pzstd', ['-V']))) ?? zstd
  const check = { id: 'host.compressor', title: 'It can compress before the link' }
  if (compressor) return { ...check, answer: 'pass', detail: compressor.version }
  return {
    ...check,
    answer: 'warn',
    detail: 'There is neither pzstd nor zstd: what is read there crosses the link as it is.',
    hint: 'Install the package zstd there.',
  }
}

const failed = (checks: readonly CheckResult[]) => checks.some(({ answer }) => answer === 'fail')
