/** The hosts there are. */
export { fileError } from './files.ts'
export { openLocalHost } from './local.ts'
export { type HostPool, hostPool, loginOf } from './pool.ts'
