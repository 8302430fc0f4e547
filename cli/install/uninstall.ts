/** `holdfast uninstall`: takes away what `install` wrote. Data stays, unless it is asked for by name. */

import type { Step } from './install.ts'
import { layout } from './layout.ts'
import type { Machine } from './machine.ts'
import { authorship } from './mark.ts'

export interface UninstallPlan {
  steps: Step[]
  /** Files with our names that somebody else wrote: they stay. */
  foreign: string[]
  /** Data that stays, or that goes with `purge`. */
  data: string[]
}

export async function planUninstall(machine: Machine, purge: boolean): Promise<UninstallPlan> {
  const there = machine.root === '/'
  const steps: Step[] = []
  const foreign: string[] = []
  const units: string[] = []
  const names = (await machine.list(layout.units)).filter(name => /^holdfast-\w+\.service$/.test(name))
  for (const name of names.sort()) {
    const path = `${layout.units}/${name}`
    const text = await machine.read(path)
    if (text !== undefined && authorship(text).by !== 'others') units.push(name)
    else foreign.push(path)
  }
  if (units.length > 0) {
    // The unit's stop leaves tools alone; whoever uninstalls wants none of them.
    if (there && units.includes('holdfast-worker.service')) {
      steps.push({ do: 'run', argv: ['systemctl', 'kill', '--kill-whom=all', 'holdfast-worker.service'] })
    }
    steps.push({
      do: 'run',
      argv: there
        ? ['systemctl', 'disable', '--now', ...units]
        : ['systemctl', `--root=${machine.root}`, 'disable', ...units],
    })
    for (const name of units) steps.push({ do: 'remove', path: `${layout.units}/${name}`, what: 'unit' })
    if (there) steps.push({ do: 'run', argv: ['systemctl', 'daemon-reload'] })
  }
  if ((await machine.list(layout.programs)).length > 0) {
    steps.push({ do: 'remove', path: layout.programs, what: "Temporal's program" })
  }
  const user = await machine.read(layout.user)
  if (user !== undefined && authorship(user).by === 'others') foreign.push(layout.user)
  // The user owns the data: it goes when they go.
  const purgeUser = purge && user !== undefined && authorship(user).by !== 'others'

  const data: string[] = []
  for (const path of [layout.home, layout.config]) {
    const found = await machine.list(path)
    if (found.length === 0) continue
    data.push(path)
    if (purge)
      steps.push({
        do: 'remove',
        path,
        what: path === layout.home ? describe(found) : 'settings, credentials',
      })
  }
  if (purgeUser) {
    steps.push({ do: 'remove', path: layout.user, what: 'the user, as a declaration' })
    if (there) steps.push({ do: 'run', argv: ['userdel', 'holdfast'] })
  }
  return { steps, foreign, data }
}

function describe(found: readonly string[]): string {
  const known: Record<string, string> = {
    keys: 'KEY FILES: without a copy elsewhere no encrypted backup can be opened',
    backups: 'the backups of the destination "local"',
    'catalog.sqlite': 'the catalog',
    'secret.key': 'the key of stored credentials',
    staging: 'staging',
  }
  return found.flatMap(name => known[name] ?? []).join('; ')
}
