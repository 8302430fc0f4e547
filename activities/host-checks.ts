/** What a host is asked when somebody wants to know whether jobs can run there. */
import type { Host } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import type { CheckResult } from '../model/types.ts'

const needed = ['cat', 'dd', 'find', 'head', 'mkfifo', 'stat', 'sync', 'tail', 'truncate', 'wc'] as const

/**
 * Can it be reached, and is there what jobs need? The first that fails ends it: what comes after would fail for the same reason.
 */
export async function hostChecks(open: () => Promise<Host>, login: string): Promise<CheckResult[]> {
  const checks: CheckResult[] = []
  const check = async (id: string, title: string, ask: () => Promise<string>): Promise<boolean> => {
    try {
      checks.push({ id, title, answer: 'pass', detail: await ask() })
      return true
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      const { code, hint, message: detail } = error
      checks.push({ id, title, answer: 'fail', detail, hint, code })
      return false
    }
  }
  const host = await open()
  const reached = await check('host.login', login, async () => {
    await host.files.stat('/')
    return 'A shell answers.'
  })
  if (!reached) return checks
  const staging = await check('host.staging', 'Staging can be written and has room', async () => {
    const probe = `${host.stagingRoot}/.precheck-${crypto.randomUUID()}`
    await host.files.ensureDirectory(host.stagingRoot)
    await host.files.write(probe, 'holdfast')
    await host.files.remove(probe)
    return `${((await host.files.freeBytes(host.stagingRoot)) / 1e9).toFixed(2)} GB free in ${host.stagingRoot}`
  })
  if (!staging) return checks
  await check('host.tools', 'What jobs need is installed', async () => {
    for (const program of needed) {
      if (await host.tool(program)) continue
      throw new HoldfastError('host.tool-missing', `"${program}" was not found on host "${host.name}".`)
    }
    return needed.join(', ')
  })
  const compressor = (await host.tool('pzstd', ['-V'])) && (await host.tool('zstd'))
  checks.push({
    id: 'host.compressor',
    title: 'It can compress before the link',
    answer: compressor ? 'pass' : 'warn',
    detail: compressor
      ? compressor.version
      : 'There is no pzstd and zstd: what is read there crosses the link as it is.',
    ...(compressor ? {} : { hint: 'Install the package zstd there.' }),
  })
  return checks
}
