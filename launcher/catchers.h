/*
 * catchers -- asking a program by a signal, without killing one that does not know it.
 *
 * What a signal does by default is to end a process. So it goes only to those that catch it, and of
 * a shell script around a program only to the program.
 */
#ifndef LAUNCHER_CATCHERS_H
#define LAUNCHER_CATCHERS_H

#include <sys/types.h>

/* Sends the signal to the processes of a group that catch it; returns how many they are. */
int catchers_tell(pid_t group, int signal);

#endif
