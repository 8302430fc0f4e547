/** `holdfast install --status`: what is installed, by which version, and whether it runs. */
import packageJson from '../../package.json' with { type: 'json' }
import { layout } from './layout.ts'
import type { Machine } from './machine.ts'
import { authorship } from './mark.ts'

export interface InstallStatus {
  installed: boolean
  /** Of the Holdfast that asks. */
  version: string
  files: { path: string; state: 'ours' | 'older' | 'edited' | 'foreign'; version: string | null }[]
  /** `active`: as systemd says it; `unknown` where it is not asked (another root). */
  units: { unit: string; enabled: boolean; active: string; since: string | null }[]
  home: string | null
}

export async function installStatus(machine: Machine): Promise<InstallStatus> {
  const units = (await machine.list(layout.units)).filter(name => /^holdfast-\w+\.service$/.test(name)).sort()
  const files: InstallStatus['files'] = []
  for (const path of [...units.map(name => `${layout.units}/${name}`), layout.user]) {
    const text = await machine.read(path)
    if (text === undefined) continue
    const author = authorship(text)
    const state =
      author.by === 'others'
        ? 'foreign'
        : author.by === 'edited'
          ? 'edited'
          : author.version === packageJson.version
            ? 'ours'
            : 'older'
    files.push({ path, state, version: author.by === 'others' ? null : author.version })
  }
  return {
    installed: files.some(file => file.path.startsWith(layout.units) && file.state !== 'foreign'),
    version: packageJson.version,
    files,
    units: await Promise.all(units.map(unit => unitStatus(machine, unit))),
    home: (await machine.list(layout.home)).length > 0 ? layout.home : null,
  }
}

async function unitStatus(machine: Machine, unit: string): Promise<InstallStatus['units'][number]> {
  const wanted = await machine.list(`${layout.units}/multi-user.target.wants`)
  const enabled = wanted.includes(unit)
  if (machine.root !== '/') return { unit, enabled, active: 'unknown', since: null }
  const shown = await machine
    .run(['systemctl', 'show', unit, '--property=ActiveState,SubState,ActiveEnterTimestamp'])
    .catch(() => '')
  const value = (name: string) => new RegExp(`^${name}=(.+)$`, 'm').exec(shown)?.[1]
  const active = value('ActiveState')
  return {
    unit,
    enabled,
    active: active === undefined ? 'unknown' : `${active} (${value('SubState')})`,
    since: value('ActiveEnterTimestamp') ?? null,
  }
}
