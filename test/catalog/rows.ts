/** Rows that the suites put into catalogs. */
export const canary = 'kanarienvogel-7f3a9c'

export const shop = (name: string) => ({
  name,
  engine: 'postgresql' as const,
  method: 'logical' as const,
  settings: { host: 'db.example' },
  secretFields: ['password'],
  host: 'local',
  serverIdentity: 'postgresql:1',
  serverVersion: '15.18',
  createdAt: new Date().toISOString(),
  address: 'db.example/shop',
  requestKey: null,
  twoPerson: false,
  canary: false,
})

export const vault = {
  name: 'vault',
  kind: 'local' as const,
  uri: 'file:///srv/backups',
  settings: {},
  secretFields: [],
  createdAt: new Date().toISOString(),
  readOnly: false,
  encryptTo: null,
  failover: null,
  offSite: null,
  foreignOnly: false,
  requestKey: null,
}
