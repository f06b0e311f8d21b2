/*
 * What libkquay is to have.
 */
#ifndef KQUAY_INTERIM_H
#define KQUAY_INTERIM_H

#include <kquay.h>

static inline int kquay_listener(const struct kquay*q,unsigned n){return kquay_listening(q,n)?0:-1;}
static inline void kquay_retire(struct kquay*q){kquay_stop(q);}
static inline int kquay_give(struct kquay*a,unsigned n,struct kquay*b){(void)a;(void)n;(void)b;return -1;}
static inline int kquay_claim(struct kquay*a,unsigned n){(void)a;(void)n;return -1;}

#endif
