/** What runs: the API and its token, Temporal, workers, ports, destinations, and whether the clocks agree. */
import { isPolling, pollersOf, temporalConnection } from '../../api/temporal.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Settings } from '../../model/settings.ts'
import {
  type ConnectionView,
  connectionView,
  type DestinationView,
  destinationView,
  page,
  type StatusView,
  statusView,
} from '../../model/views.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { createClient } from '../client.ts'
import type { Runtime } from '../context.ts'
import { isFree } from '../free-port.ts'
import type { ClientSettings } from '../whom.ts'
import { type Finding, type Section, section } from './findings.ts'

/** What an API that answered says; undefined: none did. */
export interface FromApi {
  status: StatusView
  connections: ConnectionView[]
  destinations: DestinationView[]
  /** Its clock minus ours. */
  aheadMs: number
}

export async function askApi({
  settings,
  token,
}: ClientSettings): Promise<{ answer?: FromApi; findings: Finding[] }> {
  const rows = section('api')
  const { protocol, hostname } = new URL(settings.url)
  if (protocol === 'http:' && !['127.0.0.1', 'localhost', '[::1]'].includes(hostname)) {
    rows.warn(
      'transport',
      `${settings.url} is not encrypted: the token can be read on the way.`,
      'Use https.',
    )
  }
  const client = createClient(settings.url, token.read)
  try {
    const before = Date.now()
    const date = await dateOf(`${settings.url}/healthz`)
    const aheadMs = date === undefined ? 0 : date - (before + Date.now()) / 2
    const status = await client.get(statusView, '/v1/status')
    const { items: connections } = await client.get(page(connectionView), '/v1/connections')
    const { items: destinations } = await client.get(page(destinationView), '/v1/destinations')
    rows.pass('api', `${settings.url}, Holdfast ${status.version}; it takes the token (${token.where})`)
    if (status.version !== packageJson.version) {
      rows.warn(
        'version',
        `the API is ${status.version}, this is ${packageJson.version}.`,
        'Use the same version here.',
      )
    }
    for (const one of status.destinations) {
      const [problem] = one.problems
      if (problem === undefined) rows.pass(`destination ${one.name}`, `${one.uri} answers`)
      else
        rows[problem.level === 'critical' ? 'fail' : 'warn'](
          `destination ${one.name}`,
          problem.detail,
          problem.hint,
        )
    }
    return { answer: { status, connections, destinations, aheadMs }, findings: rows.findings }
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    const nobody = error.code === 'api.unreachable'
    rows[nobody ? 'warn' : 'fail']('api', error.message, error.hint)
    return { findings: rows.findings }
  }
}

export async function temporalFindings(settings: Settings, runtime: Runtime | undefined): Promise<Finding[]> {
  const rows = section('temporal')
  const address = settings.temporal.address ?? runtime?.temporalAddress
  const { namespace } = settings.temporal
  if (address === undefined) {
    rows.warn(
      'temporal',
      'none is configured, and no `holdfast up` of this home embeds one now.',
      'holdfast up, or set HOLDFAST_TEMPORAL_ADDRESS',
    )
    return rows.findings
  }
  const connection = await temporalConnection({ temporal: { ...settings.temporal, address } })
  const within = <T>(ask: () => Promise<T>) => connection.withDeadline(Date.now() + 3000, ask)
  try {
    const { serverVersion } = await within(() => connection.workflowService.getSystemInfo({}))
    rows.pass('temporal', `${address}, server ${serverVersion}`)
    await within(() => connection.workflowService.describeNamespace({ namespace })).then(
      () => rows.pass('namespace', namespace),
      error =>
        rows.fail(
          'namespace',
          `"${namespace}" cannot be used: ${reasonOf(error)}.`,
          `temporal operator namespace create ${namespace}`,
        ),
    )
    const polling = (await within(() => pollersOf(connection, namespace))).filter(isPolling)
    if (polling.length === 0) {
      rows.fail(
        'workers',
        'none asks for work: nothing is backed up or restored.',
        'Start one (`holdfast up`, `holdfast worker`), or see its log.',
      )
    } else
      rows.pass(
        'workers',
        polling
          .map(one => one.identity)
          .sort()
          .join(', '),
      )
  } catch (error) {
    const hint = 'Check HOLDFAST_TEMPORAL_ADDRESS, its TLS settings, and that the service runs.'
    rows.fail('temporal', `${address} does not answer: ${reasonOf(error)}.`, hint)
  } finally {
    await connection.close()
  }
  return rows.findings
}

/** Ports that `up` would take. One that is held by what runs already is as it should be. */
export async function portFindings(
  settings: Settings,
  runtime: Runtime | undefined,
  api: FromApi | undefined,
): Promise<Finding[]> {
  const rows = section('ports')
  const { host, port } = settings.apiListen
  const own =
    (api !== undefined && new URL(settings.url).port === String(port)) || runtime?.api.endsWith(`:${port}`)
  if (own) rows.pass('api port', `${host}:${port}, held by this API`)
  else if (port === 0 || (await isFree(host, port))) rows.pass('api port', `${host}:${port} is free`)
  else
    rows.fail(
      'api port',
      `${host}:${port} is taken by another program.`,
      'End it, or choose another address with HOLDFAST_API_LISTEN.',
    )
  if (settings.temporal.address !== undefined || runtime !== undefined) return rows.findings
  for (const [title, number] of [
    ['temporal port', 7461],
    ['temporal ui port', 7462],
  ] as const) {
    if (await isFree('127.0.0.1', number)) rows.pass(title, `127.0.0.1:${number} is free`)
    else rows.pass(title, `127.0.0.1:${number} is taken; \`up\` takes another one`)
  }
  return rows.findings
}

/** Beyond seconds, logs of several machines are hard to read; beyond minutes, stores refuse requests and retention stops. */
const warnMs = 5_000
const failMs = 300_000

export async function clockFindings(
  settings: Settings,
  api: FromApi | undefined,
  runtime: Runtime | undefined,
): Promise<Finding[]> {
  const rows = section('clocks')
  if (api !== undefined) clockRow(rows, 'api', api.aheadMs)
  const ui = settings.temporal.uiUrl ?? runtime?.temporalUi ?? undefined
  if (ui !== undefined) clockRow(rows, 'temporal', await aheadOf(ui))
  for (const one of api?.destinations ?? []) {
    const url = storeUrl(one)
    if (url !== undefined) clockRow(rows, `destination ${one.name}`, await aheadOf(url))
  }
  return rows.findings
}

/** Where a store's clock can be asked; a directory has none of its own. */
function storeUrl({ kind, endpoint, region, account }: DestinationView): string | undefined {
  const own: Record<string, string> = {
    s3: `https://s3.${region ?? 'us-east-1'}.amazonaws.com`,
    gcs: 'https://storage.googleapis.com',
    azure: `https://${account}.blob.core.windows.net`,
  }
  return own[kind] && (endpoint ?? own[kind])
}

function clockRow(rows: Section, whose: string, aheadMs: number | undefined): void {
  if (aheadMs === undefined) {
    rows.warn(whose, 'its clock cannot be asked from here.')
    return
  }
  // HTTP tells whole seconds.
  const off = Math.abs(aheadMs) < 2000 ? 0 : aheadMs
  const told = `${Math.round(Math.abs(off) / 1000)} s ${off > 0 ? 'ahead of' : 'behind'} this machine`
  const hint = 'Set the clocks by NTP on every machine.'
  if (off === 0) rows.pass(whose, 'agrees with this machine')
  else if (Math.abs(off) > failMs) rows.fail(whose, `${told}.`, hint)
  else if (Math.abs(off) > warnMs) rows.warn(whose, `${told}.`, hint)
  else rows.pass(whose, told)
}

async function aheadOf(url: string): Promise<number | undefined> {
  const before = Date.now()
  const date = await dateOf(url)
  return date === undefined ? undefined : date - (before + Date.now()) / 2
}

/** Whatever it answers, it says what time it is; the middle of the second that it says. */
async function dateOf(url: string): Promise<number | undefined> {
  try {
    const answer = await fetch(url, { method: 'GET', redirect: 'manual', signal: AbortSignal.timeout(3000) })
    await answer.body?.cancel()
    const date = Date.parse(answer.headers.get('date') ?? '')
    return Number.isNaN(date) ? undefined : date + 500
  } catch {
    return undefined
  }
}

const reasonOf = (error: unknown): string => {
  const text =
    error instanceof Error ? ('details' in error && String(error.details)) || error.message : String(error)
  return text.split('\n')[0]?.replace(/\.$/, '') ?? ''
}
