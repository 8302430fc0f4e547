/** The home and what lies in it: there, private, readable, with room. Looks only; nothing is mended or made. */
import { accessSync, constants, type Stats, statfsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { HoldfastError } from '../../model/errors.ts'
import { homePaths, type Settings } from '../../model/settings.ts'
import { loadKeyring } from '../../storage/keys.ts'
import { bytes } from '../terminal.ts'
import { type Finding, type Section, section } from './findings.ts'

/** `largestBytes`: of the databases there are backups of; a staged backup needs about as much room. */
export async function fileFindings(settings: Settings, largestBytes: number): Promise<Finding[]> {
  const rows = section('files')
  const home = statOf(settings.home)
  if (home === undefined) {
    rows.warn(
      'home',
      `${settings.home} is not there yet.`,
      '`holdfast up` makes it, or set HOLDFAST_HOME (or --home).',
    )
  } else {
    ownerRow(rows, 'home', settings.home, home, 0o077)
    secretKeyRow(rows, settings)
    for (const [title, path] of [
      ['api token', settings.tokenFile],
      ['worker token', settings.workerTokenFile],
    ] as const) {
      const status = statOf(path)
      if (status) ownerRow(rows, title, path, status, 0o077)
      else
        rows.warn(
          title,
          `${path} is not there.`,
          "The API's first start makes it; a worker elsewhere needs a copy.",
        )
    }
    await keyRows(rows, homePaths(settings.home).keys)
    catalogRow(rows, settings.catalogUrl)
  }
  stagingRow(rows, settings.tempDir)
  const places = new Map([
    [nearest(settings.home), 'disk of the home'],
    [nearest(settings.tempDir), 'disk of staging'],
  ])
  const known = new Set<number>()
  for (const [path, title] of places) {
    const { dev } = statSync(path)
    if (!known.has(dev)) roomRow(rows, title, path, largestBytes)
    known.add(dev)
  }
  return rows.findings
}

/** `wrongBits`: mode bits that nobody should have. */
function ownerRow(rows: Section, title: string, path: string, status: Stats, wrongBits: number): boolean {
  const uid = process.getuid?.()
  if (uid !== undefined && uid !== 0 && status.uid !== uid) {
    const hint = 'Run Holdfast, and this command, as the user it belongs to.'
    rows.fail(title, `${path} belongs to user ${status.uid}; this is user ${uid}.`, hint)
    return false
  }
  const mode = status.mode & 0o777
  if ((mode & wrongBits) !== 0) {
    const wanted = (mode & ~wrongBits).toString(8)
    rows.warn(title, `${path} has mode ${mode.toString(8)}: others may look.`, `chmod ${wanted} ${path}`)
    return false
  }
  rows.pass(title, `${path}, ${mode.toString(8)}`)
  return true
}

function secretKeyRow(rows: Section, settings: Settings): void {
  if (settings.secretKey !== undefined) {
    rows.pass('secret key', 'from HOLDFAST_SECRET_KEY')
    return
  }
  const status = statOf(settings.secretKeyFile)
  if (status) ownerRow(rows, 'secret key', settings.secretKeyFile, status, 0o077)
  else if (statOf(settings.catalogUrl.replace(/^sqlite:(\/\/)?/, ''))) {
    const hint =
      'Put it back as it was, or set HOLDFAST_SECRET_KEY: without it stored credentials cannot be opened.'
    rows.fail('secret key', `${settings.secretKeyFile} is not there, and the catalog is.`, hint)
  } else rows.warn('secret key', `${settings.secretKeyFile} is not there yet; the first start makes it.`)
}

async function keyRows(rows: Section, directory: string): Promise<void> {
  await rows.attempt('keys', async () => {
    const { keys, locked, kms, recipients } = await loadKeyring(directory)
    if (keys.length + locked.length + kms.length + recipients.length === 0) {
      rows.warn(
        'keys',
        `there is none in ${directory}: backups cannot be encrypted.`,
        'holdfast keys new NAME',
      )
      return
    }
    const open = keys.filter(({ name }) => {
      const status = statOf(join(directory, `${name}.json`))
      return status !== undefined && (status.mode & 0o077) !== 0
    })
    if (open.length > 0) {
      const files = open.map(({ name }) => join(directory, `${name}.json`)).join(' ')
      rows.warn('keys', `${files}: others may read it.`, `chmod 600 ${files}`)
    } else if (keys.length === 0 && kms.length > 0) {
      const names = kms.map(one => `${one.name} (${one.kms.service})`).join(', ')
      rows.pass('keys', `backups are opened by ${names}; keep the name of the key elsewhere`)
    } else if (keys.length === 0 && locked.length > 0) {
      const names = locked.map(one => one.name).join(', ')
      rows.pass('keys', `backups are opened by ${names}, with the passphrase; keep copies elsewhere`)
    } else if (keys.length === 0) {
      rows.pass('keys', `${recipients.map(one => one.name).join(', ')}: can encrypt; none opens backups here`)
    } else
      rows.pass(
        'keys',
        `backups are opened by ${keys.map(one => one.name).join(', ')}; keep copies elsewhere`,
      )
  })
}

function catalogRow(rows: Section, url: string): void {
  const path = /^sqlite:(?:\/\/)?(\/.+)$/.exec(url)?.[1]
  if (path === undefined) {
    rows.pass('catalog', 'on another server; the API says below whether it answers')
    return
  }
  const status = statOf(path)
  if (status === undefined) {
    rows.warn(
      'catalog',
      `${path} is not there yet.`,
      'The first start makes it; a lost one: `holdfast catalog rebuild`.',
    )
    return
  }
  if (!ownerRow(rows, 'catalog', path, status, 0o077)) return
  rows.findings.pop()
  try {
    const database = new DatabaseSync(path, { readOnly: true, timeout: 200 })
    try {
      const version = database.prepare('SELECT max(version) AS version FROM schema_version').get()?.version
      rows.pass('catalog', `${path}, schema ${version}; nobody has it open`)
    } finally {
      database.close()
    }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    if (/locked|busy/i.test(text)) rows.pass('catalog', `${path}, in use by its API`)
    else
      rows.fail(
        'catalog',
        `${path} cannot be read: ${text}.`,
        'Move it away and start again: `holdfast catalog rebuild`.',
      )
  }
}

function stagingRow(rows: Section, path: string): void {
  const there = nearest(path)
  try {
    accessSync(there, constants.W_OK | constants.X_OK)
    rows.pass('staging', there === path ? path : `${path} will be made in ${there}`)
  } catch {
    const { code, hint } = new HoldfastError('staging.permission', '')
    rows.fail('staging', `${there} cannot be written by this user (${code}).`, hint)
  }
}

function roomRow(rows: Section, title: string, path: string, largestBytes: number): void {
  const { bavail, bsize, blocks } = statfsSync(path)
  const free = bavail * bsize
  const share = blocks === 0 ? 0 : Math.round((100 * bavail) / blocks)
  const told = `${bytes(free)} free (${share} %)`
  const hint = 'Free space, or point HOLDFAST_TEMP_DIR or HOLDFAST_HOME to a larger file system.'
  if (free < 100e6) rows.fail(title, `${told} on ${path}.`, hint)
  else if (free < Math.max(1e9, largestBytes)) {
    const need =
      largestBytes > 1e9
        ? `; the largest database has ${bytes(largestBytes)}, and is staged for some formats`
        : ''
    rows.warn(title, `${told} on ${path}${need}.`, hint)
  } else rows.pass(title, told)
}

/** The path, or what there is of it. */
function nearest(path: string): string {
  return statOf(path) === undefined && dirname(path) !== path ? nearest(dirname(path)) : path
}

function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false })
}
