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
  const zstd = await host.tool('zstd', ['-V'])
  const compressor = (zstd && (await host.tool('pzstd', ['-V']))) ?? zstd
  checks.push({
    id: 'host.compressor',
    title: 'It can compress before the link',
    answer: compressor ? 'pass' : 'warn',
    detail: compressor
      ? compressor.version
      : 'There is neither pzstd nor zstd: what is read there crosses the link as it is.',
    ...(compressor ? {} : { hint: 'Install the package zstd there.' }),
  })
  return checks
}

const failed = (checks: readonly CheckResult[]) => checks.some(({ answer }) => answer === 'fail')
