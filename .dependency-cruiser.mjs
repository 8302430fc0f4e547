/**
 * The arrows: api, cli → workflows (names and types) → activities → engines, hosts, storage, catalog → model.
 * Each rule names a room and everything it may see; what is not named may not be imported.
 */
const rooms = {
  model: ['model'],
  engines: ['engines', 'model'],
  hosts: ['hosts', 'model', 'engines/engine.ts'],
  storage: ['storage', 'model'],
  catalog: ['catalog', 'storage', 'engines', 'model'],
  activities: ['activities', 'engines', 'hosts', 'storage', 'catalog', 'model'],
  workflows: ['workflows', 'model'],
  api: ['api', 'workflows', 'activities', 'engines', 'hosts', 'storage', 'catalog', 'model'],
  cli: [
    'cli',
    'api',
    'workflows',
    'activities',
    'engines',
    'hosts',
    'storage',
    'catalog',
    'model',
    'package.json',
  ],
}

const outside = '^(node_modules|node:)|^[a-z_/]+$'

/** Engines do not know each other. */
const strangers = {
  name: 'engines-are-strangers',
  severity: 'error',
  from: { path: '^engines/([^/]+)/' },
  to: { path: '^engines/[^/]+/', pathNot: '^engines/$1/' },
}

/** Workflows run in Temporal's sandbox: nothing but its SDK and pure words; steps only as types. */
const sandbox = [
  {
    name: 'workflows-see-steps-as-types-only',
    severity: 'error',
    from: { path: '^workflows/' },
    to: { path: '^activities/', dependencyTypesNot: ['type-only'] },
  },
  {
    name: 'workflows-import-nothing-impure',
    severity: 'error',
    from: { path: '^workflows/' },
    to: {
      path: '^node_modules/(?!@temporalio/(workflow|common)/)|^model/(schemas|access|manifest|settings)\\.ts$',
    },
  },
  {
    name: 'workflows-use-nothing-of-node',
    severity: 'error',
    from: { path: '^workflows/' },
    to: { dependencyTypes: ['core'] },
  },
]

const onlyIn = (name, packages, where) => ({
  name,
  severity: 'error',
  from: { pathNot: `^(${where}|test|bench|demo|node_modules)/` },
  to: { path: `^node_modules/(${packages})/` },
})

export default {
  forbidden: [
    ...Object.entries(rooms).map(([room, seen]) => ({
      name: `${room}-sees-only-what-is-below`,
      severity: 'error',
      from: { path: `^${room}/` },
      to: {
        path: '^[a-z]+/',
        pathNot: [
          `^(${seen.map(one => one.replaceAll('.', '\\.')).join('|')})(/|$)`,
          ...(room === 'workflows' ? ['^activities/'] : []),
          outside,
        ],
      },
    })),
    strangers,
    ...sandbox,
    onlyIn('hono-stays-in-the-api', 'hono|@hono', 'api'),
    onlyIn('temporal-stays-above-the-boundary', '@temporalio', 'activities|workflows|api|cli'),
    onlyIn('stores-stay-in-storage', '@aws-sdk|@smithy|@azure|google-auth-library', 'storage'),
    onlyIn('ssh-stays-in-hosts', 'ssh2', 'hosts'),
    onlyIn('sql-stays-in-the-catalog', 'kysely|pg', 'catalog'),
    {
      name: 'no-circles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'everything-resolves', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^test/histories' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      extensions: ['.ts', '.mjs', '.js'],
    },
  },
}
