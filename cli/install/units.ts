/** The systemd units, as text. What is fenced off and why: docs/installation.md. */
import { dirname } from 'node:path'
import { temporalServerArguments } from '../temporal-server.ts'
import { credentials, layout, type Part, type Secret } from './layout.ts'

export interface UnitFacts {
  /** Holdfast's own directory, e.g. /opt/holdfast. */
  program: string
  part: Part
  /** The worker lives on this host, and serves no other. */
  host: string | undefined
  /** Absent: the settings name a Temporal of one's own. */
  temporal: { program: string; serverVersion: string; namespace: string } | undefined
  /** Secrets that are there as credentials. */
  secrets: readonly Secret[]
  /** Directories outside the home that backups and restores may write to. */
  writable: readonly string[]
}

const temporalPorts = { port: 7461, uiPort: 7462 }

/** Unit's name → text. */
export function unitTexts(facts: UnitFacts): Record<string, string> {
  const { temporal } = facts
  return {
    ...(temporal === undefined ? {} : { 'holdfast-temporal.service': temporalUnit(temporal) }),
    ...(facts.part === 'worker' ? {} : { 'holdfast-api.service': apiUnit(facts) }),
    ...(facts.part === 'api' ? {} : { 'holdfast-worker.service': workerUnit(facts) }),
  }
}

const apiUnit = (facts: UnitFacts): string =>
  unit(
    'Holdfast API',
    ['network-online.target', 'postgresql.service', ...afterTemporal(facts)],
    [
      `ExecStart=${word(`${facts.program}/bin/holdfast`)} api`,
      ...settings(facts, ['HOLDFAST_CATALOG_URL', 'HOLDFAST_SECRET_KEY', 'HOLDFAST_TEMPORAL_API_KEY']),
      'StateDirectory=holdfast holdfast/keys holdfast/backups holdfast/staging holdfast/tmp',
      // It waits ten seconds for requests under way.
      'KillMode=mixed',
      'TimeoutStopSec=30',
      ...writable(facts),
    ],
  )

const workerUnit = (facts: UnitFacts): string =>
  unit(
    'Holdfast worker',
    [
      'network-online.target',
      'postgresql.service',
      ...(facts.part === 'worker' ? [] : ['holdfast-api.service']),
      ...afterTemporal(facts),
    ],
    [
      `ExecStart=${word(`${facts.program}/bin/holdfast`)} worker${facts.host === undefined ? '' : ` --host ${facts.host}`}`,
      ...settings(facts, [
        'HOLDFAST_TEMPORAL_API_KEY',
        ...(facts.part === 'worker' ? (['HOLDFAST_WORKER_TOKEN'] as const) : []),
      ]),
      'StateDirectory=holdfast holdfast/backups holdfast/staging holdfast/tmp',
      '# Only the worker itself is told to end: tools that write into staging go on, and the next worker finds them.',
      'KillMode=process',
      'TimeoutStopSec=40',
      '# A tool that takes too much memory is the loss of that tool, not of the worker and every other tool.',
      'OOMPolicy=continue',
      '# Workers hold no keys.',
      `InaccessiblePaths=-${layout.home}/secret.key -${layout.home}/api.token -${layout.home}/keys -${layout.credentials}`,
      ...writable(facts),
    ],
  )

/** Of the agent that archives PostgreSQL's log, on the machine of the server, as its user. `config`: of `wal init`. */
export const agentUnit = (program: string, config: string, user: string): string =>
  unit(
    "Holdfast archiver of PostgreSQL's log",
    ['network-online.target'],
    [
      `ExecStart=${word(`${program}/bin/holdfast`)} wal agent --config ${word(config)}`,
      '# Credentials of a store, as its own tools take them.',
      `EnvironmentFile=-${dirname(config)}/wal.env`,
      'KillMode=mixed',
      'TimeoutStopSec=30',
      '# The data directory and destinations on this machine may lie anywhere; its socket lies beside its configuration.',
      'ProtectSystem=full',
      'ProtectHome=no',
      'PrivateTmp=no',
      `ReadWritePaths=${word(dirname(config))}`,
      "# The server's shared memory is of the same user: it must outlive the agent.",
      'RemoveIPC=no',
    ],
    user,
  )

function temporalUnit(temporal: NonNullable<UnitFacts['temporal']>): string {
  const args = temporalServerArguments({
    ...temporalPorts,
    namespace: temporal.namespace,
    databaseFile: `${layout.home}/temporal-${temporal.serverVersion}.sqlite`,
  })
  return unit(
    'Temporal for Holdfast (one machine)',
    [],
    [
      `ExecStart=${[temporal.program, ...args].map(word).join(' ')}`,
      'StateDirectory=holdfast',
      'KillMode=mixed',
      'TimeoutStopSec=30',
      'MemoryDenyWriteExecute=yes',
      'ProtectHome=yes',
    ],
  )
}

const afterTemporal = ({ temporal }: UnitFacts): string[] =>
  temporal === undefined ? [] : ['holdfast-temporal.service']

/** Environment of API and worker: what the installation fixes, then the administrator's file, then secrets by file. */
function settings({ temporal, secrets }: UnitFacts, wanted: readonly Secret[]): string[] {
  const given = wanted.filter(name => secrets.includes(name))
  return [
    `Environment=HOLDFAST_HOME=${layout.home} TMPDIR=${layout.home}/tmp NODE_ENV=production HOLDFAST_LOG_FORMAT=json`,
    ...(temporal === undefined
      ? []
      : [
          `Environment=HOLDFAST_TEMPORAL_ADDRESS=127.0.0.1:${temporalPorts.port} HOLDFAST_TEMPORAL_NAMESPACE=${temporal.namespace} HOLDFAST_TEMPORAL_UI_URL=http://127.0.0.1:${temporalPorts.uiPort}`,
        ]),
    `EnvironmentFile=-${layout.settings}`,
    ...given.map(name => `LoadCredential=${credentials[name]}:${layout.credentials}/${credentials[name]}`),
    ...given.map(name => `Environment=${name}_FILE=/run/credentials/%n/${credentials[name]}`),
  ]
}

const writable = (facts: UnitFacts): string[] => facts.writable.map(path => `ReadWritePaths=${word(path)}`)

/** The directories that a unit of ours lets be written. */
export const writableOf = (text: string): string[] =>
  [...text.matchAll(/^ReadWritePaths=(.+)$/gm)].map(([, value = '']) =>
    value
      .replace(/^"(.*)"$/, (_, inner: string) => inner.replace(/\\(.)/g, '$1'))
      .replaceAll('%%', '%')
      .replaceAll('$$', '$'),
  )

const unit = (
  description: string,
  after: readonly string[],
  service: readonly string[],
  user = 'holdfast',
): string =>
  [
    '[Unit]',
    `Description=${description}`,
    ...(after.length === 0 ? [] : ['Wants=network-online.target', `After=${after.join(' ')}`]),
    'StartLimitIntervalSec=0',
    '',
    '[Service]',
    'Type=exec',
    `User=${user}`,
    `Group=${user}`,
    ...service,
    ...(service.some(line => line.startsWith('StateDirectory=')) ? ['StateDirectoryMode=0700'] : []),
    'UMask=0077',
    'Restart=always',
    'RestartSec=2',
    'LimitNOFILE=65536',
    '# A core file would hold secrets.',
    'LimitCORE=0',
    ...fence.filter(line => !service.some(own => own.startsWith(line.replace(/=.*/, '=')))),
    '',
    '[Install]',
    'WantedBy=multi-user.target',
    '',
  ].join('\n')

/** Node compiles as it runs, so memory may not be fenced; /proc is needed to tell jobs apart. */
const fence = [
  'CapabilityBoundingSet=',
  'AmbientCapabilities=',
  'NoNewPrivileges=yes',
  'ProtectSystem=strict',
  'ProtectHome=read-only',
  'PrivateTmp=yes',
  'PrivateDevices=yes',
  'ProtectProc=invisible',
  'ProtectClock=yes',
  'ProtectControlGroups=yes',
  'ProtectHostname=yes',
  'ProtectKernelLogs=yes',
  'ProtectKernelModules=yes',
  'ProtectKernelTunables=yes',
  'LockPersonality=yes',
  'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  'RestrictNamespaces=yes',
  'RestrictRealtime=yes',
  'RestrictSUIDSGID=yes',
  'RemoveIPC=yes',
  'SystemCallArchitectures=native',
  'SystemCallFilter=@system-service',
  'SystemCallErrorNumber=EPERM',
]

/** One word of a unit's line: specifiers, quotes and blanks mean themselves. */
const word = (text: string): string => {
  const plain = text.replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /[\s"'\\;]/.test(plain) ? `"${plain.replace(/["\\]/g, '\\$&')}"` : plain
}
