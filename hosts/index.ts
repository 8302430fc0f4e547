/** The hosts there are. */
export { openLocalHost } from './local.ts'
export { type HostPool, hostPool, loginOf } from './pool.ts'
