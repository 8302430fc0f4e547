/** Where an installation's parts lie. All paths are those of the machine; `--root` goes before them where files are touched. */
export const layout = {
  /** StateDirectory of the units: the home. */
  home: '/var/lib/holdfast',
  units: '/etc/systemd/system',
  user: '/etc/sysusers.d/holdfast.conf',
  config: '/etc/holdfast',
  settings: '/etc/holdfast/holdfast.env',
  /** Root's, 0600: systemd hands them to the units that name them. */
  credentials: '/etc/holdfast/credentials',
  /** Temporal's program, when no other Temporal is named. */
  programs: '/usr/local/lib/holdfast',
} as const

/** Settings that are secrets → the credential's name. */
export const credentials = {
  HOLDFAST_CATALOG_URL: 'catalog-url',
  HOLDFAST_SECRET_KEY: 'secret-key',
  HOLDFAST_TEMPORAL_API_KEY: 'temporal-api-key',
  /** Of a worker whose API is on another machine; beside the API it lies in the home. */
  HOLDFAST_WORKER_TOKEN: 'worker-token',
} as const
export type Secret = keyof typeof credentials
export const secrets = Object.keys(credentials) as Secret[]

/** What of Holdfast a machine has: all of it, or its API or a worker alone. */
export const parts = ['all', 'api', 'worker'] as const
export type Part = (typeof parts)[number]
